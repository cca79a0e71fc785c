# Builds guest programs: static musl ELF, C++20 without exceptions or RTTI, clang 19.
#
# The host compiler is also the guest compiler (clang is always a cross-compiler); what changes is the target triple
# and where headers come from: libc++'s (header-only use), clang's own, then musl's. Nothing of the host's libc or
# libstdc++ may be seen, hence -nostdinc. Linking goes through musl-gcc, which knows musl's crt files.
find_program(WARMFORK_MUSL_GCC musl-gcc REQUIRED)
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-resource-dir OUTPUT_VARIABLE WARMFORK_CLANG_RESOURCES
                OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
find_path(WARMFORK_LIBCXX_INCLUDE __config PATHS /usr/lib/llvm-19/include/c++/v1 NO_DEFAULT_PATH REQUIRED)
find_path(WARMFORK_MUSL_INCLUDE unistd.h PATHS /usr/include/x86_64-linux-musl NO_DEFAULT_PATH REQUIRED)

# SHELL: keeps each -isystem with its directory: CMake drops repeated options otherwise.
set(WARMFORK_GUEST_FLAGS
  --target=x86_64-linux-musl -nostdinc "SHELL:-isystem ${WARMFORK_CLANG_RESOURCES}/include" "SHELL:-isystem ${WARMFORK_MUSL_INCLUDE}"
  -fno-pic -fno-pie -mcmodel=small -ffunction-sections -fdata-sections -fno-stack-protector -O2 -g1
  -Wall -Wextra -Wshadow $<$<BOOL:${WARMFORK_WERROR}>:-Werror>
  CACHE INTERNAL "Of every guest, also one that another project adds")
set(WARMFORK_ROOT ${PROJECT_SOURCE_DIR} CACHE INTERNAL "Where warmfork lies")
set(WARMFORK_GUEST_CXX_FLAGS
  -nostdinc++ "SHELL:-isystem ${WARMFORK_LIBCXX_INCLUDE}" -D_LIBCPP_HAS_MUSL_LIBC=1 -fno-exceptions -fno-rtti
  -fno-threadsafe-statics CACHE INTERNAL "Of every guest in C++")

# warmfork_add_guest(NAME [VMCALLS] SOURCES … [INCLUDES …] [FLAGS …] [LINK …]): a static musl executable for the guest.
# VMCALLS: it registers vmcalls (warmfork/abi/vmcall.hpp), so the note that names their table is linked in.
# Sets the target property WARMFORK_GUEST_ELF to its path. Sanitizers and host warnings never reach it.
function(warmfork_add_guest name)
  cmake_parse_arguments(ARG "VMCALLS" "" "SOURCES;INCLUDES;FLAGS;LINK" ${ARGN})
  set(note "")
  if(ARG_VMCALLS)
    set(note $<TARGET_OBJECTS:warmfork_vmcall_note>)
  endif()
  add_library(${name}_objects OBJECT ${ARG_SOURCES})
  set_target_properties(${name}_objects PROPERTIES POSITION_INDEPENDENT_CODE OFF CXX_CLANG_TIDY ""
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF)
  # libc++'s headers come before clang's and musl's: they wrap the C headers by #include_next.
  target_compile_options(${name}_objects PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${WARMFORK_GUEST_CXX_FLAGS}> ${WARMFORK_GUEST_FLAGS} ${ARG_FLAGS})
  target_include_directories(${name}_objects PRIVATE ${WARMFORK_ROOT}/include ${WARMFORK_ROOT} ${ARG_INCLUDES})
  set(elf ${CMAKE_CURRENT_BINARY_DIR}/${name}.elf)
  add_custom_command(OUTPUT ${elf}
    COMMAND ${WARMFORK_MUSL_GCC} -static -no-pie -Wl,--gc-sections -Wl,-z,noexecstack -Wl,-z,separate-code
            -Wl,--build-id=none $<TARGET_OBJECTS:${name}_objects> ${note} ${ARG_LINK} -o ${elf}
    DEPENDS ${name}_objects $<TARGET_OBJECTS:${name}_objects> ${note} COMMAND_EXPAND_LISTS VERBATIM
    COMMENT "Linking guest ${name}.elf")
  add_custom_target(${name} ALL DEPENDS ${elf})
  set_target_properties(${name} PROPERTIES WARMFORK_GUEST_ELF ${elf})
endfunction()

# warmfork_embed(TARGET SYMBOL FILE [DEPENDENCY]): a static library with the bytes of FILE, which the target DEPENDENCY
# makes, as `extern "C" const unsigned char SYMBOL_begin[], SYMBOL_end[]`.
function(warmfork_embed target symbol file)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${target}.S)
  file(CONFIGURE OUTPUT ${source} CONTENT ".section .rodata
.balign 4096
.global @symbol@_begin, @symbol@_end
@symbol@_begin:
.incbin \"@file@\"
@symbol@_end:
.section .note.GNU-stack,\"\",@progbits
" @ONLY)
  add_library(warmfork_${target} STATIC ${source})
  set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS ${file})
  if(ARGN)
    add_dependencies(warmfork_${target} ${ARGN})
  endif()
  add_library(warmfork::${target} ALIAS warmfork_${target})
endfunction()
