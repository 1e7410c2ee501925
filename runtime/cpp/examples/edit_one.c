/* One edit from C: edit_one BUNDLE IMAGE MASK REFERENCE OUT */
#include <a2edit/a2edit.h>
#include <stdio.h>

static int failed(a2edit_error* error) {
  if (error == NULL) return 0;
  fprintf(stderr, "error: %s\n", a2edit_error_get_message(error));
  a2edit_error_free(error);
  return 1;
}

static int set_picture(a2edit_request* request, a2edit_role role, const char* path) {
  a2edit_picture picture = {.struct_size = sizeof picture, .path = path};
  return failed(a2edit_request_set_picture(request, role, &picture));
}

static int show_step(void* user, int32_t done, int32_t steps) {
  (void)user;
  printf("\rstep %d of %d", (int)done, (int)steps);
  fflush(stdout);
  return 0; /* anything else cancels */
}

int main(int count, char** words) {
  a2edit_editor* editor = NULL;
  a2edit_request* request = NULL;
  a2edit_result* result = NULL;
  int status = 2;
  if (count != 6) {
    fprintf(stderr, "usage: %s BUNDLE IMAGE MASK REFERENCE OUT\n", words[0]);
    return status;
  }
  if (!failed(a2edit_editor_open(words[1], NULL, &editor)) &&
      !failed(a2edit_request_create(&request)) && !set_picture(request, A2EDIT_IMAGE, words[2]) &&
      !set_picture(request, A2EDIT_MASK, words[3]) &&
      !set_picture(request, A2EDIT_REFERENCE, words[4]) &&
      !failed(a2edit_editor_edit(editor, request, show_step, NULL, &result)) &&
      !failed(a2edit_result_save(result, words[5]))) {
    a2edit_outcome outcome = {.struct_size = sizeof outcome};
    if (!failed(a2edit_result_get(result, &outcome))) {
      printf("\n%s: route %s (%s), %d x %d\n", words[5], outcome.route, outcome.supply,
             (int)outcome.width, (int)outcome.height);
      status = 0;
    }
  }
  a2edit_result_free(result);
  a2edit_request_free(request);
  a2edit_editor_close(editor);
  return status;
}
