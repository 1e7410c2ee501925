# One folder that runs where neither Python nor OpenVINO is installed:
#
#   cmake --install BUILD --component ship --prefix FOLDER
#
# lib/ gets our library, the parts of OpenVINO that it needs (the processor's plugin, the reader of
# compiled models and the one of graphs, for bundles that another version compiled), and every other
# library that those need but what each Linux has: the C and C++ run times.
set(ship COMPONENT ship EXCLUDE_FROM_ALL)
install(TARGETS a2edit LIBRARY DESTINATION lib NAMELINK_SKIP ${ship})
install(TARGETS a2edit-host RUNTIME DESTINATION bin ${ship})

get_target_property(runtime openvino::runtime IMPORTED_LOCATION_RELEASE)
get_filename_component(folder "${runtime}" DIRECTORY)
file(GLOB parts "${folder}/libopenvino_intel_cpu_plugin.so" "${folder}/libopenvino_ir_frontend.so.*"
     "${folder}/libopenvino_onnx_frontend.so.*")
install(FILES ${parts} DESTINATION lib ${ship})

# No path of this machine, and no symbols for debugging.
install(CODE "
  set(library \"\${CMAKE_INSTALL_PREFIX}/lib/$<TARGET_FILE_NAME:a2edit>\")
  set(host \"\${CMAKE_INSTALL_PREFIX}/bin/$<TARGET_FILE_NAME:a2edit-host>\")
  file(RPATH_SET FILE \"\${library}\" NEW_RPATH \"\\\$ORIGIN\")
  execute_process(COMMAND ${CMAKE_STRIP} --strip-unneeded \"\${library}\" \"\${host}\"
                  COMMAND_ERROR_IS_FATAL ANY)
" ${ship})
install(CODE "
  file(GET_RUNTIME_DEPENDENCIES
    LIBRARIES \"$<TARGET_FILE:a2edit>\" ${parts}
    DIRECTORIES \"${folder}\"
    RESOLVED_DEPENDENCIES_VAR needed
    UNRESOLVED_DEPENDENCIES_VAR missing
    PRE_EXCLUDE_REGEXES \"^ld-linux\" \"^lib(c|m|dl|rt|pthread|gcc_s|stdc\\\\+\\\\+)\\\\.so\"
    POST_EXCLUDE_REGEXES \"liba2edit\")
  if(missing)
    message(FATAL_ERROR \"libraries that are needed and not found: \${missing}\")
  endif()
  file(INSTALL DESTINATION \"\${CMAKE_INSTALL_PREFIX}/lib\" TYPE SHARED_LIBRARY FOLLOW_SYMLINK_CHAIN
       FILES \${needed})
" ${ship})
