#include <doctest/doctest.h>

#include "src/core/repr.hpp"

using namespace a2edit;

TEST_CASE("a text is quoted as Python quotes it") {
  CHECK(repr(std::string("scene.jpg")) == "'scene.jpg'");
  CHECK(repr(std::string("it's")) == "\"it's\"");
  CHECK(repr(std::string("both ' and \"")) == "'both \\' and \"'");
  CHECK(repr(std::string("tab\tline\nnull") + '\0') == "'tab\\tline\\nnull\\x00'");
  CHECK(repr(std::string("caf\xc3\xa9 \xe2\x80\xa8")) == "'caf\xc3\xa9 \\u2028'");
  CHECK(repr(std::string("not UTF-8: \xff")) == "'not UTF-8: \\udcff'");
}

TEST_CASE("a number has the fewest digits that read back") {
  CHECK(repr(0.1) == "0.1");
  CHECK(repr(1.0) == "1.0");
  CHECK(repr(-0.0) == "-0.0");
  CHECK(repr(1e16) == "1e+16");
  CHECK(repr(123456789012345.0) == "123456789012345.0");
  CHECK(repr(0.0001) == "0.0001");
  CHECK(repr(0.00001) == "1e-05");
}
