#include "src/pictures/images.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <system_error>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/pictures/decode.hpp"
#include "src/pictures/jpeg_markers.hpp"
#include "src/pictures/png_chunks.hpp"

namespace a2edit {
namespace {

// Pillow takes no picture of more pixels, whatever the memory.
constexpr std::uint64_t kMostPixels = 178956970;

bool opaque(const Pixels& alpha) {
  return std::all_of(alpha.data.begin(), alpha.data.end(), [](std::uint8_t a) { return a == 255; });
}

// The profile, where it describes RGB and the pixels were RGB all along.
std::vector<std::uint8_t> rgb_profile(const FileHeader& header) {
  const std::vector<std::uint8_t>& icc = header.metadata.icc;
  const bool fits = icc.size() >= 20 && std::memcmp(&icc[16], "RGB ", 4) == 0;
  const bool rgb = header.mode == "RGB" || header.mode == "RGBA";
  return fits && rgb ? icc : std::vector<std::uint8_t>();
}

template <class File>
Picture loaded(const File& file, Raster (*load)(const File&), const std::string& name) {
  try {
    Raster raster = load(file);
    const int turn = orientation(file.metadata);
    Picture picture;
    picture.name = name;
    picture.rgb = upright(std::move(raster.rgb), turn);
    if (raster.alpha && !opaque(*raster.alpha))
      picture.alpha = upright(std::move(*raster.alpha), turn);
    picture.icc = rgb_profile(file);
    return picture;
  } catch (const BrokenFile& error) {
    fail_request(name + " is damaged or of an unknown kind (mode " + file.mode +
                 "): " + error.what() + "; save it again as PNG");
  } catch (const std::bad_alloc&) {
    fail_request(name + " is too large (" + std::to_string(file.width) + "x" +
                 std::to_string(file.height) + "): out of memory; scale it down first");
  }
}

template <class File>
Picture opened(ByteView bytes, File (*open)(ByteView), Raster (*load)(const File&),
               const std::string& name) {
  File file;
  try {
    file = open(bytes);
  } catch (const Unidentified&) {
    fail_request(name + " is not an image that can be read here (" + std::to_string(bytes.size) +
                 " bytes): give a PNG or JPEG file");
  } catch (const BrokenFile& error) {
    fail_request(name + " cannot be read: " + error.what());
  }
  const std::uint64_t pixels = std::uint64_t{file.width} * file.height;
  if (pixels > kMostPixels)
    fail_request(name + " is too large: Image size (" + std::to_string(pixels) +
                 " pixels) exceeds limit of " + std::to_string(kMostPixels) +
                 " pixels, could be decompression bomb DOS attack.; scale it down first");
  return loaded(file, load, name);
}

PngFile open_other(ByteView) { throw Unidentified("neither PNG nor JPEG"); }

std::vector<std::uint8_t> file_bytes(const std::string& path, const std::string& name) {
  std::error_code ignored;
  if (path.empty() || std::filesystem::is_directory(path, ignored))
    fail_request(name + " is a folder: give an image file (PNG or JPEG)");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  if (!file && (errno == ENOENT || errno == ENOTDIR))
    fail_request(name + " does not exist: check the path");
  if (!file) fail_request(name + " cannot be read: " + std::generic_category().message(errno));
  std::vector<std::uint8_t> bytes;
  std::size_t done = 0;
  do {
    bytes.resize(std::max<std::size_t>(1 << 20, 2 * done));
    done += std::fread(bytes.data() + done, 1, bytes.size() - done, file.get());
  } while (done == bytes.size());
  if (std::ferror(file.get()))
    fail_request(name + " cannot be read: " + std::generic_category().message(errno));
  bytes.resize(done);
  return bytes;
}

Picture from_pixels(const Pixels& pixels, const std::string& name) {
  const int channels = pixels.channels;
  std::vector<std::int64_t> shape{pixels.height, pixels.width};
  if (channels != 1) shape.push_back(channels);
  if (channels != 1 && channels != 3 && channels != 4)
    fail_request(
        name + " is an array of shape " + list_text(shape) +
        ": give [H,W], [H,W,1], [H,W,3] or [H,W,4] of uint8, uint16, bool, or floats in 0..1");
  if (pixels.data.empty())
    fail_request(name + " is an array without pixels, shape " + list_text(shape));
  Picture picture;
  picture.name = name;
  if (channels == 3) {
    picture.rgb = pixels;
    return picture;
  }
  picture.rgb = Pixels(pixels.height, pixels.width, 3);
  Pixels alpha(pixels.height, pixels.width, 1);
  for (std::size_t index = 0; index < alpha.data.size(); ++index) {
    const std::uint8_t* from = &pixels.data[index * channels];
    for (int channel = 0; channel < 3; ++channel)
      picture.rgb.data[3 * index + channel] = from[channels == 1 ? 0 : channel];
    alpha.data[index] = channels == 1 ? 255 : from[3];
  }
  if (!opaque(alpha)) picture.alpha = std::move(alpha);
  return picture;
}

}  // namespace

Picture load_picture(const PictureSource& source, const std::string& role) {
  if (source.pixels) return from_pixels(*source.pixels, "the " + role);
  if (source.bytes)
    return decode_picture(source.bytes->data(), source.bytes->size(), "the " + role);
  const std::string name = role + " " + repr(source.path);
  const std::vector<std::uint8_t> bytes = file_bytes(source.path, name);
  return decode_picture(bytes.data(), bytes.size(), name);
}

Picture decode_picture(const std::uint8_t* bytes, std::size_t size, const std::string& name) {
  const ByteView view{bytes, size};
  if (view.starts_with("\x89PNG\r\n\x1a\n")) return opened(view, open_png, load_png, name);
  if (view.starts_with("\xff\xd8\xff")) return opened(view, open_jpeg, load_jpeg, name);
  return opened(view, open_other, load_png, name);
}

Pixels on_white(const Picture& picture) {
  Pixels out = picture.rgb;
  if (!picture.alpha) return out;
  for (std::size_t index = 0; index < picture.alpha->data.size(); ++index) {
    const int opacity = picture.alpha->data[index];
    for (int channel = 0; channel < 3; ++channel) {
      std::uint8_t& value = out.data[3 * index + channel];
      value = static_cast<std::uint8_t>((value * opacity + 255 * (255 - opacity) + 127) / 255);
    }
  }
  return out;
}

}  // namespace a2edit
