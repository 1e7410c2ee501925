# NVIDIA's two products of one C++ interface, each with a header NvInfer.h of its own:
#
#   tensorrt      TensorRT, libnvinfer               hint: TENSORRT_ROOT
#   tensorrt_rtx  TensorRT for RTX, libtensorrt_rtx  hint: TENSORRT_RTX_ROOT
#
# A hint is a variable of CMake or of the environment. Of each product that is found:
#
#   TensorRT::<product>         its headers; the library is opened when it is first used
#   TensorRT_<product>_VERSION  of the headers, such as 10.13.3
#   TensorRT_<product>_FOLDER   of the library
#
# TensorRT_FOUND says whether there is any, TensorRT_MISSING_<product> what one lacks.
include(FindPackageHandleStandardArgs)

function(a2edit_find_tensorrt product library_name root)
  set(include TensorRT_${product}_INCLUDE_DIR)
  set(library TensorRT_${product}_LIBRARY)
  set(hints ${${root}} $ENV{${root}})
  find_path(${include} NvInfer.h HINTS ${hints} PATH_SUFFIXES include
            DOC "The folder of ${product}'s NvInfer.h")
  set(missing "")
  set(major "")
  if(${include})
    # the header of the one product is no header of the other
    file(STRINGS "${${include}}/NvInferVersion.h" lines REGEX "^#define +[A-Z_]+ +[0-9]+")
    set(kind tensorrt)
    if(lines MATCHES "TRT_MAJOR_RTX")
      set(kind tensorrt_rtx)
    endif()
    if(kind STREQUAL product)
      foreach(part MAJOR MINOR PATCH)
        string(REGEX MATCH "_${part}[A-Z_]* +([0-9]+)" found "${lines}")
        list(APPEND version ${CMAKE_MATCH_1})
      endforeach()
      list(GET version 0 major)
      list(JOIN version . version)
    endif()
  endif()
  if(NOT major)
    list(APPEND missing "its NvInfer.h")
  endif()
  find_library(${library} NAMES ${library_name} lib${library_name}.so.${major} HINTS ${hints}
               PATH_SUFFIXES lib lib64 DOC "The library of ${product}")
  if(NOT ${library})
    list(APPEND missing "lib${library_name}")
  endif()
  list(JOIN missing " and " missing)
  set(TensorRT_MISSING_${product} "${missing}" PARENT_SCOPE)
  if(missing)
    return()
  endif()
  if(NOT TARGET TensorRT::${product})
    add_library(TensorRT::${product} INTERFACE IMPORTED)
    set_target_properties(TensorRT::${product} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
                                                          "${${include}}")
  endif()
  get_filename_component(folder "${${library}}" DIRECTORY)
  set(TensorRT_${product}_FOLDER "${folder}" PARENT_SCOPE)
  set(TensorRT_${product}_VERSION "${version}" PARENT_SCOPE)
  set(TensorRT_${product}_FOUND TRUE PARENT_SCOPE)
endfunction()

a2edit_find_tensorrt(tensorrt nvinfer TENSORRT_ROOT)
a2edit_find_tensorrt(tensorrt_rtx tensorrt_rtx TENSORRT_RTX_ROOT)
set(TensorRT_ANY ${TensorRT_tensorrt_FOUND} ${TensorRT_tensorrt_rtx_FOUND})
find_package_handle_standard_args(TensorRT REQUIRED_VARS TensorRT_ANY)
