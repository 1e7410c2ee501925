// The facts about a model that a host needs: sizes and layout, from the bundle's manifest.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace a2edit {

constexpr int patch = 16;  // pixels of a token's side

// Geometry of one model (SPEC §2); every graph of its bundle has these shapes. What holds for each
// field is checked where the manifest is read.
struct ModelSpec {
  std::string layout;               // "diptych" or "redux"
  std::string reference_placement;  // "aligned" or "centred"
  int size = 0;                     // side of the square target in pixels, where none is asked for
  std::vector<int> sizes;           // sides that the engines take, ascending, multiples of 16
  int batch = 1;                    // most samples a run
  int latent_channels = 0;          // per packed token
  int conditioning_channels = 0;    // per packed token: masked image and mask
  int text_length = 0;              // prompt tokens
  int pooled_length = 0;            // prompt tokens of the pooled encoder
  int reference_size = 0;           // side of the image encoder's square in pixels
  int blocks = 0;                   // L
  int experts = 0;                  // N
  std::string checkpoint_hash;

  // The side that a request asks for; throws a request Error where no engine takes it.
  int chosen(const std::optional<int>& asked) const;

  bool diptych() const { return layout == "diptych"; }

  // Of what the autoencoder sees for a target of side `side` pixels.
  int canvas_width(int side) const { return diptych() ? 2 * side : side; }
  int canvas_height(int side) const { return side; }

  // Of the packed tokens of that canvas.
  int rows(int side) const { return side / patch; }
  int columns(int side) const { return canvas_width(side) / patch; }
};

}  // namespace a2edit
