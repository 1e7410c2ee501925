#include "src/pictures/jpeg_markers.hpp"

#include <algorithm>

namespace a2edit {
namespace {

class Reader {
 public:
  explicit Reader(ByteView file) { jpeg_.file = file; }

  JpegFile read() {
    at_ = 2;  // behind FF D8
    while (true) {
      const ByteView pair = jpeg_.file.slice(at_, 2);
      if (pair.size < 2) break;  // the end, without a scan
      if (pair[0] != 0xFF) {     // junk between segments
        ++at_;
        continue;
      }
      const unsigned marker = pair[1];
      if (marker == 0xFF) {
        ++at_;
        continue;
      }
      at_ += 2;
      if (marker == 0) continue;  // an escaped FF
      if (marker < 0xC0) throw Unidentified("no marker found");
      if (has_segment(marker)) segment(marker);
      if (marker == 0xDA) {
        scans_ = true;
        break;
      }
    }
    if (jpeg_.mode.empty() || jpeg_.width == 0 || jpeg_.height == 0)
      throw Unidentified("not identified by this driver");
    // where the density is known, EXIF is not asked for it
    jpeg_.metadata.exif_is_optional = !density_known_;
    if (!scans_) jpeg_.file = {};
    return std::move(jpeg_);
  }

 private:
  static bool has_segment(unsigned marker) {
    const bool alone =
        marker == 0xC8 || (marker >= 0xD0 && marker <= 0xD9) || (marker >= 0xF0 && marker <= 0xFD);
    return !alone;
  }

  void segment(unsigned marker) {
    const ByteView head = jpeg_.file.slice(at_, 2);
    if (head.size < 2) throw Unidentified("unpack_from requires a buffer of at least 2 bytes");
    at_ += 2;
    const std::size_t stored = big_endian_16(head.data);
    const std::size_t length = stored < 2 ? 0 : stored - 2;
    const ByteView body = jpeg_.file.slice(at_, length);
    if (body.size < length) throw BrokenFile("Truncated File Read");
    at_ += length;
    const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xCC;
    if (frame || marker == 0xDE)
      start_of_frame(body);
    else if (marker == 0xDB)
      quantisation(body);
    else if (marker >= 0xE0 && marker <= 0xEF)
      application(marker, body);
  }

  void start_of_frame(ByteView body) {
    if (body.size < 6) throw Unidentified("index out of range");
    jpeg_.width = big_endian_16(body.data + 3);
    jpeg_.height = big_endian_16(body.data + 1);
    if (body[0] != 8)
      throw Unidentified("cannot handle " + std::to_string(body[0]) + "-bit layers");
    const unsigned layers = body[5];
    if (layers != 1 && layers != 3 && layers != 4)
      throw Unidentified("cannot handle " + std::to_string(layers) + "-layer images");
    jpeg_.mode = layers == 1 ? "L" : layers == 3 ? "RGB" : "CMYK";
    if ((body.size - 6) % 3 != 0) throw Unidentified("index out of range");
    if (!profile_parts_.empty()) join_profile();
  }

  // Pillow sorts the segments as bytes, so by their number, and asks the first for how many there
  // are.
  void join_profile() {
    std::sort(profile_parts_.begin(), profile_parts_.end());
    jpeg_.metadata.icc.clear();
    if (profile_parts_[0].size() < 14) throw Unidentified("index out of range");
    if (static_cast<std::uint8_t>(profile_parts_[0][13]) == profile_parts_.size())
      for (const std::string& part : profile_parts_) {
        const ByteView body = ByteView(part).slice(14, part.size());
        jpeg_.metadata.icc.insert(jpeg_.metadata.icc.end(), body.data, body.data + body.size);
      }
    profile_parts_.clear();
  }

  static void quantisation(ByteView body) {
    while (body.size > 0) {
      const std::size_t length = body[0] < 16 ? 65 : 129;
      if (body.size < length) throw Unidentified("bad quantization table marker");
      body = body.slice(length, body.size);
    }
  }

  void application(unsigned marker, ByteView body) {
    static const std::string xap("http://ns.adobe.com/xap/1.0/\0", 29),
        profile("ICC_PROFILE\0", 12), photoshop("Photoshop 3.0\0", 14);
    Metadata& metadata = jpeg_.metadata;
    if (marker == 0xE0 && body.starts_with("JFIF")) {
      if (body.size < 7) throw Unidentified("unpack_from requires a buffer of at least 7 bytes");
      density_known_ |= body.size >= 12 && (body[7] == 1 || body[7] == 2);
    } else if (marker == 0xE1 && body.starts_with(kExifPrefix)) {
      // the parts of what is too long for one segment
      const ByteView part =
          metadata.exif.empty() ? body : body.slice(kExifPrefix.size(), body.size);
      metadata.exif.insert(metadata.exif.end(), part.data, part.data + part.size);
    } else if (marker == 0xE1 && body.starts_with(xap)) {
      metadata.xmp = body.slice(xap.size(), body.size).text();
    } else if (marker == 0xE2 && body.starts_with(profile)) {
      profile_parts_.push_back(body.text());
    } else if (marker == 0xED && body.starts_with(photoshop)) {
      resources(body);
    } else if (marker == 0xEE && body.starts_with("Adobe") && body.size < 7) {
      throw Unidentified("unpack_from requires a buffer of at least 7 bytes");
    }
  }

  // Photoshop's blocks say nothing that is needed, but where one ends amid its name, Pillow gives
  // up.
  static void resources(ByteView body) {
    std::size_t at = 14;
    while (body.slice(at, 4).text() == "8BIM") {
      if (body.slice(at + 4, 2).size < 2) return;
      at += 6;
      if (at >= body.size) throw Unidentified("index out of range");
      at += 1 + std::size_t{body[at]};
      at += at & 1U;
      if (body.slice(at, 4).size < 4) return;
      at += 4 + std::size_t{big_endian_32(body.data + at)};
      at += at & 1U;
    }
  }

  JpegFile jpeg_;
  std::size_t at_ = 0;
  std::vector<std::string> profile_parts_;
  bool density_known_ = false;
  bool scans_ = false;
};

}  // namespace

JpegFile open_jpeg(ByteView file) { return Reader(file).read(); }

}  // namespace a2edit
