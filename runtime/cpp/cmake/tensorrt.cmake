# The engines for NVIDIA's GPUs: `A2EDIT_TENSORRT_PRODUCTS` are those that are built, which takes the
# headers and the library of each, and CUDA's runtime. That one is linked, where it can be so that
# machines without it are served too.
set(A2EDIT_TENSORRT_PRODUCTS "")
if(A2EDIT_TENSORRT)
  find_package(CUDAToolkit QUIET)
  find_package(TensorRT QUIET)
  foreach(product tensorrt tensorrt_rtx)
    set(missing "${TensorRT_MISSING_${product}}")
    if(NOT CUDAToolkit_FOUND)
      list(APPEND missing "CUDA's runtime")
      list(JOIN missing " and " missing)
    endif()
    if(missing)
      list(APPEND a2edit_reasons "${product} lacks ${missing}")
    else()
      list(APPEND A2EDIT_TENSORRT_PRODUCTS ${product})
      message(STATUS "Engine ${product}: headers of ${TensorRT_${product}_VERSION}")
      # where this library looks for it, besides what the system's loader knows
      list(APPEND CMAKE_BUILD_RPATH ${TensorRT_${product}_FOLDER})
      list(APPEND A2EDIT_INSTALL_RPATH ${TensorRT_${product}_FOLDER})
    endif()
  endforeach()
  list(JOIN a2edit_reasons "; " a2edit_reasons)
  if(NOT A2EDIT_TENSORRT_PRODUCTS AND NOT A2EDIT_TENSORRT STREQUAL AUTO)
    message(FATAL_ERROR "A2EDIT_TENSORRT is ${A2EDIT_TENSORRT}, and there is nothing to build an engine "
                        "for GPUs against: ${a2edit_reasons}. Give -DTENSORRT_ROOT=, "
                        "-DTENSORRT_RTX_ROOT= or -DCUDAToolkit_ROOT=, or -DA2EDIT_TENSORRT=OFF")
  elseif(NOT A2EDIT_TENSORRT_PRODUCTS)
    message(STATUS "No engine for GPUs: ${a2edit_reasons}")
  endif()
endif()
