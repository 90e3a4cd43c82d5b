// What of Mbed TLS is compiled: see mpconfigvariant.mk.
#define MBEDTLS_AES_C
#define MBEDTLS_CIPHER_MODE_CBC
#define MBEDTLS_SHA256_C
