// The port's configuration with what a variant cannot say (MP_CONFIGFILE).
#include <mpconfigport.h>

// The longest path of an import, on the stack: 128 bytes on boards. Folders of tests are longer; 4,096 is the port's.
#undef MICROPY_ALLOC_PATH_MAX
#define MICROPY_ALLOC_PATH_MAX (512)
