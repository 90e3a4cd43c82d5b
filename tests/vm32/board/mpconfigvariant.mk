# A variant of MicroPython's unix port, see mpconfigvariant.h. tests/vm32/vm.py gives VARIANT_DIR and the rest.
PROG = micropython
FROZEN_MANIFEST ?= $(VARIANT_DIR)/manifest.py

MICROPY_PY_FFI = 0
MICROPY_PY_SSL = 0
MICROPY_PY_BTREE = 0
MICROPY_PY_BLUETOOTH = 0
MICROPY_PY_JNI = 0

CFLAGS += -DMP_CONFIGFILE='"mpconfigboard.h"'

# AES and SHA-256 of Mbed TLS, as boards have them, and nothing else of it.
CFLAGS += -I$(TOP)/lib/mbedtls/include -DMBEDTLS_CONFIG_FILE='"mbedtls_subset.h"' -DMICROPY_SSL_MBEDTLS=1
SRC_THIRDPARTY_C += $(addprefix lib/mbedtls/library/, aes.c sha256.c platform_util.c)

# The REPL of boards: see repl.c.
SHARED_SRC_C_EXTRA += runtime/pyexec.c
LDFLAGS_EXTRA += -Wl,--wrap=readline
