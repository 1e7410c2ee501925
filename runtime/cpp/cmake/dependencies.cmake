# Everything that is not ours, found once. Debian and Ubuntu: `make cpp-setup` installs it.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(ICU REQUIRED COMPONENTS uc)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(PNG REQUIRED)
find_package(JPEG REQUIRED)

# A blob of OpenVINO is loaded by the very version that compiled it, so the one of the Python package
# is taken where there is one. -DOpenVINO_DIR=... names another.
if(NOT OpenVINO_DIR)
  find_program(A2EDIT_PYTHON NAMES python3 python HINTS ${CMAKE_CURRENT_SOURCE_DIR}/../../.venv/bin
               NO_DEFAULT_PATH DOC "The Python whose openvino package is linked")
  if(NOT A2EDIT_PYTHON)
    find_program(A2EDIT_PYTHON NAMES python3 python)
  endif()
  if(A2EDIT_PYTHON)
    execute_process(
      COMMAND ${A2EDIT_PYTHON} -c "import importlib.util as u, pathlib as p
print(p.Path(u.find_spec('openvino').origin).parent / 'cmake', end='')"
      OUTPUT_VARIABLE wheel RESULT_VARIABLE failed ERROR_QUIET)
    if(NOT failed)
      set(OpenVINO_DIR ${wheel} CACHE PATH "The folder of OpenVINOConfig.cmake")
    endif()
  endif()
endif()
find_package(OpenVINO REQUIRED COMPONENTS Runtime)

# Where an installed library finds OpenVINO: -DA2EDIT_INSTALL_RPATH= (empty) where it is shipped beside.
get_target_property(runtime openvino::runtime IMPORTED_LOCATION_RELEASE)
get_filename_component(runtime "${runtime}" DIRECTORY)
set(A2EDIT_INSTALL_RPATH "${runtime}" CACHE STRING "Folders of libraries, besides the library's own")
