#include "src/pictures/png_chunks.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <new>

namespace a2edit {
namespace {

// A text or profile may become this large, and all texts together 64 times as much.
constexpr std::size_t kMostText = std::size_t{1} << 20U;
// Pillow reads pixels in blocks of this many bytes.
constexpr std::size_t kReadBlock = 65536;

struct Inflated {
  std::string bytes;
  bool valid = true;
};

// As much as there is; an error past kMostText.
Inflated inflated(ByteView packed) {
  if (packed.size == 0) return {};
  Inflated out;
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) throw std::bad_alloc();
  stream.next_in = const_cast<Bytef*>(packed.data);
  stream.avail_in = static_cast<uInt>(packed.size);
  int status = Z_OK;
  std::size_t room = std::min(4 * packed.size, kMostText);
  do {  // the room grows with what comes out: many small chunks must not cost much
    const std::size_t done = out.bytes.size();
    out.bytes.resize(room);
    stream.next_out = reinterpret_cast<Bytef*>(&out.bytes[done]);
    stream.avail_out = static_cast<uInt>(room - done);
    status = inflate(&stream, Z_SYNC_FLUSH);
    out.bytes.resize(room - stream.avail_out);
    room = std::min(2 * room, kMostText);
  } while (status == Z_OK && stream.avail_out == 0 && out.bytes.size() < kMostText);
  const bool more = stream.avail_in > 0 && out.bytes.size() == kMostText && status != Z_STREAM_END;
  inflateEnd(&stream);
  out.valid = status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR;
  if (out.valid && more)
    throw BrokenFile("Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK");
  return out;
}

bool is_name(ByteView bytes) {
  if (bytes.size != 4) return false;
  return std::all_of(bytes.data, bytes.data + 4, [](std::uint8_t c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  });
}

// Pillow's modes by (bits, colour type).
const std::map<std::pair<unsigned, unsigned>, std::string> kModes{
    {{1, 0}, "1"},   {{2, 0}, "L"},    {{4, 0}, "L"},     {{8, 0}, "L"},    {{16, 0}, "I;16"},
    {{8, 2}, "RGB"}, {{16, 2}, "RGB"}, {{1, 3}, "P"},     {{2, 3}, "P"},    {{4, 3}, "P"},
    {{8, 3}, "P"},   {{8, 4}, "LA"},   {{16, 4}, "RGBA"}, {{8, 6}, "RGBA"}, {{16, 6}, "RGBA"}};

// What stands before the first `\0`, and what behind it.
std::pair<ByteView, ByteView> split(ByteView bytes) {
  const std::uint8_t* end = bytes.data + bytes.size;
  const std::uint8_t* zero = std::find(bytes.data, end, std::uint8_t{0});
  const auto length = static_cast<std::size_t>(zero - bytes.data);
  return {bytes.slice(0, length), bytes.slice(length + 1, bytes.size)};
}

class Reader {
 public:
  explicit Reader(ByteView file) : file_(file) {}

  PngFile read() {
    at_ = 8;
    while (true) {
      const auto [name, length] = header();
      if (!is_name(name)) throw Unidentified("broken PNG file (chunk " + bytes_repr(name) + ")");
      if (name.text() == "IEND") break;
      if (name.text() == "IDAT" && !png_.mode.empty()) {  // else one chunk of many
        if (!framed_) png_.frame = {0, 0, to_int(png_.width), to_int(png_.height)};
        default_image_ = animated_ && !framed_;
        left_ = length;
        collect();
        break;
      }
      const ByteView body = taken(length);
      handle(name.text(), body);
      if (file_.size - at_ < 4 || big_endian_32(file_.data + at_) != sum(name, body))
        throw Unidentified("broken PNG file (bad header checksum in " + bytes_repr(name) + ")");
      at_ += 4;
    }
    if (png_.mode.empty() || png_.width == 0 || png_.height == 0)
      throw Unidentified("not identified by this driver");
    return std::move(png_);
  }

 private:
  static int to_int(std::uint32_t value) {
    return value > 0x7FFFFFFF ? 0x7FFFFFFF : static_cast<int>(value);
  }

  static std::uint32_t sum(ByteView name, ByteView body) {
    std::size_t value = crc32(0, name.data, 4);
    value = crc32_z(value, body.data, body.size);
    return static_cast<std::uint32_t>(value);
  }

  // Name (4 bytes, or fewer at the end of the file) and length of the next chunk.
  std::pair<ByteView, std::size_t> header() {
    const ByteView head = file_.slice(at_, 8);
    at_ += head.size;
    if (head.size < 4) throw Unidentified("unpack_from requires a buffer of at least 4 bytes");
    return {head.slice(4, 4), big_endian_32(head.data)};
  }

  ByteView taken(std::size_t length) {
    const ByteView body = file_.slice(at_, length);
    if (body.size < length) throw BrokenFile("Truncated File Read");
    at_ += length;
    return body;
  }

  // The compressed pixels, from within the first chunk of them on, and what follows.
  void collect() {
    while (true) {
      const ByteView body = file_.slice(at_, left_);
      png_.data.push_back(body);
      at_ += body.size;
      if (body.size < left_) {
        png_.cut_off = truncation(body.size);
        png_.last_is_cut = true;
        return;
      }
      const ByteView checksum = file_.slice(at_, 4);
      const ByteView head = file_.slice(at_ + checksum.size, 8);
      if (head.size < 4) {
        png_.cut_off = "image file is truncated";
        return;
      }
      const ByteView name = head.slice(4, 4);
      if (!is_name(name)) {
        png_.cut_off = "broken PNG file (chunk " + bytes_repr(name) + ")";
        return;
      }
      if (name.text() != "IDAT" && name.text() != "DDAT") break;
      at_ += 12;
      left_ = big_endian_32(head.data);
    }
    png_.cut_off = "image file is truncated (0 bytes not processed)";
    try {
      trail();
    } catch (const BrokenFile& error) {
      png_.trailer_error = error.what();
    }
  }

  // Pillow's words depend on where the end of the file falls among its blocks.
  std::string truncation(std::size_t available) const {
    std::size_t left = left_;
    while (true) {
      const std::size_t block = std::min(kReadBlock, left);
      if (available < block && (available == 0 || block < left))
        return "image file is truncated (0 bytes not processed)";
      if (available < block) return "image file is truncated";
      available -= block;
      left -= block;
    }
  }

  // Chunks behind the pixels; their sums are not looked at.
  void trail() {
    while (true) {
      at_ += file_.slice(at_, 4).size;
      const ByteView head = file_.slice(at_, 8);
      const ByteView name = head.slice(4, 4);
      if (head.size < 4 || !is_name(name) || name.text() == "IEND") return;
      if (name.text() == "fcTL" && animated_ && (frames_ > 1 || default_image_)) return;
      at_ += 8;
      const ByteView body = taken(big_endian_32(head.data));
      handle(name.text(), body);
    }
  }

  void handle(const std::string& name, ByteView body) {
    static const std::map<std::string, void (Reader::*)(ByteView)> handlers{
        {"IHDR", &Reader::ihdr},
        {"PLTE", &Reader::plte},
        {"tRNS", &Reader::trns},
        {"iCCP", &Reader::iccp},
        {"tEXt", &Reader::text},
        {"zTXt", &Reader::packed_text},
        {"iTXt", &Reader::international_text},
        {"eXIf", &Reader::exif},
        {"acTL", &Reader::animation},
        {"fcTL", &Reader::frame},
        {"fdAT", &Reader::frame_data}};
    // what is only checked for its length
    static const std::map<std::string, std::size_t> least{
        {"gAMA", 4}, {"cHRM", 32}, {"sRGB", 1}, {"pHYs", 9}};
    const auto length = least.find(name);
    if (length != least.end() && body.size < length->second)
      throw BrokenFile("Truncated " + name + " chunk");
    const auto handler = handlers.find(name);
    if (handler != handlers.end()) (this->*handler->second)(body);
  }

  void ihdr(ByteView body) {
    if (body.size < 13) throw BrokenFile("Truncated IHDR chunk");
    if (body[11]) throw Unidentified("unknown filter category");
    if (!png_.data.empty()) return;
    png_.width = big_endian_32(body.data);
    png_.height = big_endian_32(body.data + 4);
    const auto mode = kModes.find({body[8], body[9]});
    if (mode != kModes.end()) {
      png_.mode = mode->second;
      png_.bit_depth = body[8];
      png_.colour_type = body[9];
    }
    if (body[12]) png_.interlaced = true;
  }

  void plte(ByteView body) {
    if (png_.mode == "P" && png_.data.empty()) png_.palette = body.bytes();
  }

  void trns(ByteView body) {
    const bool rgb = png_.mode == "RGB";
    if (png_.mode == "P") {
      png_.palette_alpha = body.bytes();
    } else if (rgb || png_.mode == "1" || png_.mode == "L" || png_.mode == "I;16") {
      if (body.size < (rgb ? 6 : 2)) throw BrokenFile("Truncated tRNS chunk");
      std::vector<unsigned> values;
      for (std::size_t at = 0; at < (rgb ? 6 : 2); at += 2)
        values.push_back(big_endian_16(body.data + at));
      if (png_.mode == "1") values[0] = values[0] ? 255 : 0;
      png_.transparent = values;
    }
  }

  void iccp(ByteView body) {
    const auto [name, rest] = split(body);
    const bool unnamed = name.size == body.size;  // then Pillow takes the first byte for the method
    const ByteView packed = unnamed ? body : rest;
    if (packed.size == 0) throw Unidentified("index out of range");
    check_method(packed[0], "iCCP");
    const Inflated profile = inflated(packed.slice(1, packed.size));
    png_.metadata.icc.clear();
    if (profile.valid) png_.metadata.icc.assign(profile.bytes.begin(), profile.bytes.end());
  }

  static void check_method(unsigned method, const std::string& chunk) {
    if (method != 0)
      throw Unidentified("Unknown compression method " + std::to_string(method) + " in " + chunk +
                         " chunk");
  }

  void remember(const std::string& key, const std::string& value) {
    if (key.empty()) return;
    if (key == "XML:com.adobe.xmp") png_.metadata.xmp = value;
    if (key == "Raw profile type exif") png_.metadata.exif_profile = value;
    text_total_ += value.size();
    if (text_total_ > 64 * kMostText)
      throw BrokenFile("Too much memory used in text chunks: " + std::to_string(text_total_) +
                       ">MAX_TEXT_MEMORY");
  }

  void text(ByteView body) {
    const auto [key, value] = split(body);
    remember(key.text(), value.text());
  }

  void packed_text(ByteView body) {
    const auto [key, value] = split(body);
    if (value.size > 0) check_method(value[0], "zTXt");
    const Inflated plain = inflated(value.slice(1, value.size));
    remember(key.text(), plain.valid ? plain.bytes : std::string());
  }

  void international_text(ByteView body) {
    const auto [key, rest] = split(body);
    if (rest.size < 2) return;
    const auto [language, translated] = split(rest.slice(2, rest.size));
    const auto [translation, value] = split(translated);
    if (language.size + translation.size + value.size + 4 != rest.size) return;
    if (rest[0] == 0) return remember(key.text(), value.text());
    if (rest[1] != 0) return;
    const Inflated plain = inflated(value);
    if (plain.valid) remember(key.text(), plain.bytes);
  }

  void exif(ByteView body) {
    png_.metadata.exif = ByteView(kExifPrefix).bytes();
    png_.metadata.exif.insert(png_.metadata.exif.end(), body.data, body.data + body.size);
  }

  void animation(ByteView body) {
    if (body.size < 8) throw BrokenFile("APNG contains truncated acTL chunk");
    const std::uint32_t frames = big_endian_32(body.data);
    animated_ = !animated_ && frames != 0 && frames <= 0x80000000;
    frames_ = animated_ ? frames : 1;
  }

  void frame(ByteView body) {
    if (body.size < 26) throw BrokenFile("APNG contains truncated fcTL chunk");
    const std::int64_t sequence = big_endian_32(body.data);
    if (sequence != sequence_ + 1) throw Unidentified("APNG contains frame sequence errors");
    sequence_ = sequence;
    const std::uint64_t width = big_endian_32(body.data + 4), height = big_endian_32(body.data + 8);
    const std::uint64_t x = big_endian_32(body.data + 12), y = big_endian_32(body.data + 16);
    if (x + width > png_.width || y + height > png_.height)
      throw Unidentified("APNG contains invalid frames");
    if (!png_.data.empty()) return;  // of a frame behind the first
    png_.frame = {static_cast<int>(x), static_cast<int>(y), static_cast<int>(x + width),
                  static_cast<int>(y + height)};
    framed_ = true;
  }

  // Pixels of a frame that is not the first: only its place is looked at.
  void frame_data(ByteView body) {
    if (body.size < 4) throw BrokenFile("APNG contains truncated fDAT chunk");
    const std::int64_t sequence = big_endian_32(body.data);
    if (png_.data.empty() || sequence_ < 0 || sequence != sequence_ + 1)
      throw Unidentified("APNG contains frame sequence errors");
    sequence_ = sequence;
  }

  ByteView file_;
  std::size_t at_ = 0;
  std::size_t left_ = 0;  // of the chunk of pixels that is being read
  PngFile png_;
  std::size_t text_total_ = 0;
  bool animated_ = false;
  std::uint32_t frames_ = 1;
  bool default_image_ = false;
  bool framed_ = false;
  std::int64_t sequence_ = -1;
};

}  // namespace

PngFile open_png(ByteView file) { return Reader(file).read(); }

}  // namespace a2edit
