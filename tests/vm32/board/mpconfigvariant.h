// MicroPython as boards have it, as a process. Words of 32 bits come from the compiler (MICROPY_FORCE_32BIT).
#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)

// Of ports/esp32 and ports/rp2: integers below 2**30 fit into a word, a float is a single on the heap.
#define MICROPY_OBJ_REPR (MICROPY_OBJ_REPR_A)
#define MICROPY_FLOAT_IMPL (MICROPY_FLOAT_IMPL_FLOAT)
typedef int mp_int_t;
typedef unsigned int mp_uint_t;

// The collector has its defaults, as on an ESP32: blocks of four words. (There the heap grows by areas, here it does not.)

// AES in C without counter mode, as the images of both have it.
#define MICROPY_PY_CRYPTOLIB (1)
#define MICROPY_PY_CRYPTOLIB_CTR (0)

// Bytes of C stack, where 40,000 are too many: those of an ESP32 are 15360, of an RP2 7936. 32 bits of x86 take about as
// much of it as a board does.
#include <stdlib.h>
#define MICROPY_STACK_CHECK_MARGIN (getenv("BOARD_STACK") ? 40000 - atoi(getenv("BOARD_STACK")) : 0)

// For the banner, which is also in a file that does not know the name of the compiler.
#define MICROPY_BANNER_MACHINE MICROPY_PY_SYS_PLATFORM " [words of 32 bits] version"

#include "variants/mpconfigvariant_common.h"
