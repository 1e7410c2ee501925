/* TBB opens a library with RTLD_DEEPBIND, at which a sanitizer ends the program: a program under one
 * is linked with this, which opens it without. */
#define _GNU_SOURCE
#include <dlfcn.h>

void* dlopen(const char* file, int flags) {
  void* (*next)(const char*, int) = (void* (*)(const char*, int))dlsym(RTLD_NEXT, "dlopen");
  return next(file, flags & ~RTLD_DEEPBIND);
}
