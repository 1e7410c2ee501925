# The shared library, and what find_package(a2edit) needs of it in another project.
include(CMakePackageConfigHelpers)

add_library(a2edit SHARED src/editor.cpp src/c_api.cpp)
add_library(a2edit::a2edit ALIAS a2edit)
target_link_libraries(a2edit PRIVATE a2edit_options ${A2EDIT_PARTS})
target_compile_definitions(a2edit PRIVATE A2EDIT_BUILDING A2EDIT_VERSION="${PROJECT_VERSION}")
# templates of the standard library would be exported too, and meet those of other libraries
set(exports ${CMAKE_CURRENT_SOURCE_DIR}/cmake/exports.map)
target_link_options(a2edit PRIVATE "LINKER:--version-script=${exports}")
set_target_properties(a2edit PROPERTIES LINK_DEPENDS ${exports})
target_compile_features(a2edit INTERFACE cxx_std_17)
target_include_directories(a2edit INTERFACE $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
                                            $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
# The number is A2EDIT_ABI_VERSION of the header. Libraries beside this one are found first, so that a
# folder can be moved; after them those that it was linked with.
set_target_properties(a2edit PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 1
                                        INSTALL_RPATH "$ORIGIN;${A2EDIT_INSTALL_RPATH}")

# RPATH, not RUNPATH: it holds for what its libraries need in turn, such as ICU's own data.
target_link_options(a2edit PRIVATE -Wl,--disable-new-dtags)

install(TARGETS a2edit EXPORT a2editTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/a2edit DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/a2edit)
install(EXPORT a2editTargets NAMESPACE a2edit:: DESTINATION ${package})
configure_package_config_file(cmake/a2editConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/a2editConfig.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/a2editConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/a2editConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/a2editConfigVersion.cmake DESTINATION ${package})
