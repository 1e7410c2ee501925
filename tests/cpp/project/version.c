/* The header is C99, and a library that is newer or older than it says so. */
#include <a2edit/a2edit.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  a2edit_editor* editor = NULL;
  a2edit_options options = {.struct_size = sizeof options};
  a2edit_error* error = a2edit_editor_open("nowhere", &options, &editor);
  if (a2edit_abi_version() != A2EDIT_ABI_VERSION || editor != NULL) return 1;
  if (a2edit_error_get_kind(error) != A2EDIT_BUNDLE) return 2;
  printf("%s\n%s\n", a2edit_version(), a2edit_error_get_message(error));
  a2edit_error_free(error);
  a2edit_error_free(NULL);
  return strcmp(a2edit_error_get_message(NULL), "") == 0 ? 0 : 3;
}
