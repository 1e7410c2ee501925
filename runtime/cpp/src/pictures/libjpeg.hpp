// jpeglib.h needs what cstdio declares, and does not include it.
#pragma once

// clang-format off
#include <cstdio>
#include <jpeglib.h>
// clang-format on
