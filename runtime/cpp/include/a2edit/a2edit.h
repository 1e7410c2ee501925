/*
 * a2edit from C: paint the object of a reference picture into the masked region of a picture.
 *
 * Handles are opaque. Every function that can fail returns an error, which is NULL where it did not;
 * an error holds its kind and one sentence, the same as the Python runtime's. No exception crosses
 * this edge. What a call gives out is owned by whoever its comment says; pointers that are given in
 * are read during the call only.
 *
 * Threads: an editor may be used by any number of threads at a time. Pictures are read, laid out and
 * pasted back in parallel; the engines work for one edit after the other. A request may be used by
 * several edits at a time while nobody changes it; a result belongs to one thread at a time.
 *
 * Structs begin with `struct_size`: set it to sizeof of the struct, and everything that is not used
 * to 0 (`a2edit_options options = {.struct_size = sizeof options};` does both). So a program that was
 * compiled with an older header works with a newer library.
 *
 * Texts are UTF-8 and end with a 0; paths are bytes as the system has them.
 */
#ifndef A2EDIT_A2EDIT_H
#define A2EDIT_A2EDIT_H

#include <stddef.h>
#include <stdint.h>

#if defined(A2EDIT_BUILDING) && defined(__GNUC__)
#define A2EDIT_API __attribute__((visibility("default")))
#else
#define A2EDIT_API
#endif
#if defined(__GNUC__)
#define A2EDIT_CHECKED __attribute__((warn_unused_result))
#else
#define A2EDIT_CHECKED
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Grows when a function or a field changes its meaning, never when some are added. */
#define A2EDIT_ABI_VERSION 1

/* Of the library that runs: "0.1.0", and the version above. The text is never freed. */
A2EDIT_API const char* a2edit_version(void);
A2EDIT_API uint32_t a2edit_abi_version(void);

/* ---------------------------------------------------------------------------------- errors */

typedef enum a2edit_error_kind {
  A2EDIT_OK = 0,            /* of NULL */
  A2EDIT_REQUEST = 1,       /* a picture, mask, box, prompt or setting that cannot be edited */
  A2EDIT_BUNDLE = 2,        /* a bundle that is missing, damaged, or of another schema version */
  A2EDIT_TARGET = 3,        /* a device, engine or precision that this machine does not offer */
  A2EDIT_ENGINE = 4,        /* an engine that failed to compile or run */
  A2EDIT_DEVICE_MEMORY = 5, /* an engine that does not fit */
  A2EDIT_OUT_OF_MEMORY = 6, /* of this process */
  A2EDIT_CANCELLED = 7,     /* the progress callback said so */
  A2EDIT_INTERNAL = 8       /* a bug of ours */
} a2edit_error_kind;

typedef struct a2edit_error a2edit_error;

A2EDIT_API a2edit_error_kind a2edit_error_get_kind(const a2edit_error* error);

/* One sentence: what failed, what was given, what is allowed, what to do. Lives as long as the
 * error; "" of NULL. */
A2EDIT_API const char* a2edit_error_get_message(const a2edit_error* error);

/* Errors belong to the caller. NULL is nothing. */
A2EDIT_API void a2edit_error_free(a2edit_error* error);

/* ---------------------------------------------------------------------------------- editor */

typedef struct a2edit_editor a2edit_editor;

typedef struct a2edit_options {
  size_t struct_size;            /* sizeof(a2edit_options) */
  const char* device;            /* what the engines run on: "cpu", or "cuda", the first visible GPU of
                                    NVIDIA's; NULL: "cpu" */
  const char* engine;            /* "openvino", "tensorrt_rtx", "tensorrt", or "auto": what the bundle
                                    was compiled by; NULL: that. Those for GPUs are there where the
                                    library was built with them. */
  const double* route_tolerance; /* predicted relative error (0.01: 1 %) up to which a route that was
                                    built ahead will do; past it weights are merged for the table,
                                    unless that errs as much (a base in 8 bits). NULL: the bundle's.
                                    Read during the call. */
  uint64_t memory_budget;        /* bytes that weight sets may take together; 0: no limit */
  int32_t strict_route;          /* 1: where the nearest route would run past the tolerance, refuse
                                    instead of warning */
} a2edit_options;

/* Check every file of `bundle`, the folder that `a2edit-build engines` wrote, and get ready. `options`
 * may be NULL: all defaults. `*editor` belongs to the caller; NULL where this fails. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_editor_open(const char* bundle,
                                                           const a2edit_options* options,
                                                           a2edit_editor** editor);

/* No edit may be running on it. NULL is nothing. */
A2EDIT_API void a2edit_editor_close(a2edit_editor* editor);

/* Open every engine now instead of at the first edit. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_editor_load(a2edit_editor* editor);

typedef struct a2edit_info {
  size_t struct_size;      /* sizeof(a2edit_info), set by the caller */
  const char* name;        /* of the model; this and the pointers below live as long as the editor */
  const char* bundle_hash; /* SHA-256 of the bundle, 64 hexadecimal digits */
  const char* target;      /* what its engines were built for: "cpu", "sm89", … */
  const char* engine;      /* what runs them: "openvino", … */
  const int32_t* sizes;    /* sides of the square target in pixels that a request may ask for, rising */
  int32_t size_count;      /* how many there are */
  int32_t size;            /* the side where none is asked for, in pixels */
  int32_t steps;           /* denoising steps where none are asked for */
  int32_t blocks;          /* rows of a gate table */
  int32_t experts;         /* columns of a gate table */
} a2edit_info;

/* Fill in what is known of an open bundle. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_editor_get_info(const a2edit_editor* editor,
                                                               a2edit_info* info);

/* --------------------------------------------------------------------------------- request */

typedef struct a2edit_request a2edit_request;

typedef enum a2edit_role {
  A2EDIT_IMAGE = 0,         /* the picture to edit, of any size */
  A2EDIT_REFERENCE = 1,     /* a picture of the object to paint in */
  A2EDIT_MASK = 2,          /* white (or transparent) where to repaint; rough is fine */
  A2EDIT_REFERENCE_MASK = 3 /* white where the object is; without one: its alpha, or all that is off
                               a plain ground */
} a2edit_role;

typedef struct a2edit_picture {
  size_t struct_size;    /* sizeof(a2edit_picture) */
  const char* path;      /* a PNG or JPEG file, which is read when the edit begins; or NULL */
  const uint8_t* pixels; /* rows from the top, channels side by side, 0 to 255; copied during the
                            call; or NULL */
  int32_t width, height; /* of the pixels */
  int32_t channels;      /* 1 grey, 3 RGB, 4 RGBA with alpha that is not multiplied in */
  size_t stride;         /* bytes from one row to the next; 0: width * channels */
  const uint8_t* bytes;  /* a whole PNG or JPEG file in memory; copied during the call, and decoded
                            when the edit begins; or NULL. One of path, pixels and bytes is given. */
  size_t byte_count;     /* of them */
} a2edit_picture;

/* `*request` belongs to the caller. It needs an image, a reference, and a mask or a box. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_request_create(a2edit_request** request);
A2EDIT_API void a2edit_request_free(a2edit_request* request); /* NULL is nothing */

/* Give a picture; a second one of a role takes the first one's place. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_request_set_picture(a2edit_request* request,
                                                                   a2edit_role role,
                                                                   const a2edit_picture* picture);

/* A region to repaint besides or for the mask, in pixels of the image: x0 <= x < x1, y0 <= y < y1. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_request_add_box(a2edit_request* request, int32_t x0,
                                                               int32_t y0, int32_t x1, int32_t y1);

/* What it should be, in words; "" where this is not called. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_request_set_prompt(a2edit_request* request,
                                                                  const char* prompt);

/* Denoising steps, 1 to 1000; 0: the bundle's. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_request_set_steps(a2edit_request* request,
                                                                 int32_t steps);

/* The same seed, the same picture; 0 where this is not called. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_request_set_seed(a2edit_request* request,
                                                                uint64_t seed);

/* Side in pixels at which the region is repainted, one of a2edit_info's sizes; 0: the bundle's. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_request_set_size(a2edit_request* request,
                                                                int32_t size);

/* 1: scale masks whose size is not the picture's, instead of refusing them. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_request_set_resize_mask(a2edit_request* request,
                                                                       int32_t resize);

/* ------------------------------------------------------------------------------------ edit */

typedef struct a2edit_result a2edit_result;

/* Told in the calling thread, after every step, how many of how many are done; what it returns is 0
 * to go on, and anything else to cancel. Where a GPU is full, the edit makes room and begins again,
 * at step 1. It must not throw, nor call this editor. */
typedef int (*a2edit_progress)(void* user, int32_t done, int32_t steps);

/* Carry out one request. `progress` may be NULL; `user` is handed to it. `*result` belongs to the
 * caller, outlives the editor if it must, and is NULL where this fails. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_editor_edit(a2edit_editor* editor,
                                                           const a2edit_request* request,
                                                           a2edit_progress progress, void* user,
                                                           a2edit_result** result);

A2EDIT_API void a2edit_result_free(a2edit_result* result); /* NULL is nothing */

typedef struct a2edit_timing {
  const char* stage; /* "load", "prepare", "encode", "gate", "route", "modulate", "denoise",
                        "decode", "compose" */
  double seconds;    /* of work; waiting for other threads' edits is not in it */
} a2edit_timing;

/* What came of an edit. Every pointer lives as long as the result. */
typedef struct a2edit_outcome {
  size_t struct_size;            /* sizeof(a2edit_outcome), set by the caller */
  const uint8_t* pixels;         /* rows from the top without padding, 0 to 255 */
  int32_t width, height;         /* of the request's image, upright */
  int32_t channels;              /* 3, or 4 where that had transparency; alpha is not multiplied in */
  const uint8_t* icc;            /* the image's colour profile, or NULL */
  size_t icc_size;               /* in bytes */
  const char* route;             /* that ran: one of the bundle's, or "merged-…" */
  const char* supply;            /* of its weights: "static", built ahead, or "merged" now */
  double predicted_error;        /* of the route against what the gate asked for, relative */
  uint64_t seed;                 /* of the noise */
  int32_t steps;                 /* that were taken */
  int32_t window[4];             /* x0, y0, x1, y1: what the model saw, in the image's pixels; half
                                    open, square, may reach outside of a small image */
  const float* gate_weights;     /* [blocks, experts], what the gate asked for */
  const float* route_table;      /* [blocks, experts], what ran for it */
  int32_t blocks, experts;       /* sizes of both tables */
  const char* bundle_hash;       /* of the bundle that ran, 64 hexadecimal digits */
  const char* const* warnings;   /* sentences */
  int32_t warning_count;         /* how many there are */
  const a2edit_timing* timings;  /* in the order of the stages */
  int32_t timing_count;          /* how many there are */
} a2edit_outcome;

A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_result_get(const a2edit_result* result,
                                                          a2edit_outcome* outcome);

/* Write the picture whole or not at all, as PNG or JPEG by its suffix; a PNG says in text chunks how
 * it came about, as the Python runtime's do. */
A2EDIT_API A2EDIT_CHECKED a2edit_error* a2edit_result_save(const a2edit_result* result,
                                                           const char* path);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* A2EDIT_A2EDIT_H */
