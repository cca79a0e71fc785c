# Run by the build: npm ci where the lock file is new, then bundle.mjs. Neither failing fails the build; it says so and
# leaves empty files, which mean the plain page.
cmake_path(GET HTML PARENT_PATH directory)
set(modules ${directory}/node_modules)
set(log ${directory}/bundle.log)
file(WRITE ${log} "")

function(plain why)
  file(WRITE ${HTML} "")
  file(WRITE ${POLICY} "")
  message("the live page is the plain one: ${why} (${log}; to try again, remove ${HTML})")
endfunction()

file(SHA256 ${SOURCE}/package-lock.json wanted)
set(installed "")
if(EXISTS ${modules}/.installed)
  file(READ ${modules}/.installed installed)
endif()
if(NOT installed STREQUAL wanted)
  file(COPY ${SOURCE}/package.json ${SOURCE}/package-lock.json DESTINATION ${directory})
  # Nothing of a package is run while it is installed.
  execute_process(
    COMMAND ${NPM} ci --include=dev --include=optional --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error --fetch-retries=1
            --fetch-retry-mintimeout=500 --fetch-timeout=15000
    WORKING_DIRECTORY ${directory} TIMEOUT 90 RESULT_VARIABLE status OUTPUT_FILE ${log} ERROR_FILE ${log})
  if(NOT status EQUAL 0)
    plain("npm ci failed")
    return()
  endif()
  file(WRITE ${modules}/.installed ${wanted})
endif()
execute_process(COMMAND ${NODE} ${SOURCE}/bundle.mjs ${SOURCE} ${HTML} ${POLICY}
                WORKING_DIRECTORY ${directory} TIMEOUT 60 RESULT_VARIABLE status ERROR_VARIABLE said)
if(NOT status EQUAL 0)
  # This is a mistake in src/, not a machine without network.
  file(REMOVE ${HTML})
  message(FATAL_ERROR "bundling the live page failed:\n${said}")
endif()
