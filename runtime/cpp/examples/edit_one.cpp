// One edit from C++: edit_one BUNDLE IMAGE MASK REFERENCE OUT
#include <a2edit/a2edit.hpp>
#include <cstdio>

int main(int count, char** words) {
  if (count != 6) {
    std::fprintf(stderr, "usage: %s BUNDLE IMAGE MASK REFERENCE OUT\n", words[0]);
    return 2;
  }
  try {
    a2edit::Editor editor(words[1]);
    a2edit::Request request;
    request.image(words[2]).mask(words[3]).reference(words[4]).seed(7);
    const a2edit::Result result = editor.edit(request, [](int done, int steps) {
      std::fprintf(stderr, "\rstep %d of %d", done, steps);
      return true;  // false cancels
    });
    std::fputc('\n', stderr);
    result.save(words[5]);
    for (const std::string& warning : result.warnings()) {
      std::fprintf(stderr, "warning: %s\n", warning.c_str());
    }
    const a2edit::PixelsView picture = result.pixels();  // or go on with these
    std::printf("%s: route %s, %d x %d\n", words[5], result.route().c_str(), picture.width,
                picture.height);
  } catch (const a2edit::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
  return 0;
}
