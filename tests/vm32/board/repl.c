// The raw REPL of boards, on Ctrl-A at an empty prompt. In MicroPython 1.25 this port has none of its own, and tools work
// with a board by nothing else. The linker gives all calls of `readline` to `__wrap_readline`: see mpconfigvariant.mk.
#include "py/mphal.h"
#include "py/runtime.h"
#include "shared/readline/readline.h"
#include "shared/runtime/pyexec.h"
#include "genhdr/mpversion.h"

int __real_readline(vstr_t *line, const char *prompt);
int __wrap_readline(vstr_t *line, const char *prompt);

int __wrap_readline(vstr_t *line, const char *prompt) {
    for (;;) {
        int ret = __real_readline(line, prompt);
        if (ret != CHAR_CTRL_A && ret != CHAR_CTRL_B) {
            return ret;
        }
        if (ret == CHAR_CTRL_A && pyexec_raw_repl() != 0) {
            return CHAR_CTRL_D; // a soft reset, which ends this process
        }
        mp_hal_stdout_tx_str("\r\n" MICROPY_BANNER_NAME_AND_VERSION "; " MICROPY_BANNER_MACHINE "\r\n");
        vstr_reset(line);
    }
}
