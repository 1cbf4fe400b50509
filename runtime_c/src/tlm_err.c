/* Names and sentences of errors. Packed strings: a table of pointers would be relocated data. */
#include "tlm.h"

static const char names[] = "TLM_OK\0TLM_ERR_ARG\0TLM_ERR_FP\0TLM_ERR_MAGIC\0TLM_ERR_VERSION\0TLM_ERR_TRUNCATED\0"
                            "TLM_ERR_CRC\0TLM_ERR_FORMAT\0TLM_ERR_LIMIT\0TLM_ERR_WEIGHTS\0TLM_ERR_ALIGN\0"
                            "TLM_ERR_MEMORY\0TLM_ERR_TOKEN\0TLM_ERR_CONTEXT\0TLM_ERR_NUMERIC\0TLM_ERR_TOKENIZER\0"
                            "TLM_ERR_OVERFLOW\0TLM_ERR_STOPPED\0TLM_ERR_UNKNOWN";

static const char texts[] = "no error\0"
                            "a parameter is missing or out of its range\0"
                            "this build's arithmetic does not follow the numerics contract\0"
                            "this is not a .tlm blob\0"
                            "the blob needs a newer runtime (version or feature)\0"
                            "the blob is cut off\0"
                            "the blob is damaged (checksum)\0"
                            "the blob contradicts its format\0"
                            "the model exceeds a limit of this runtime\0"
                            "the weights hold an invalid value\0"
                            "the blob is not aligned to 16 bytes\0"
                            "the memory given does not hold the session\0"
                            "a token id is not in the vocabulary\0"
                            "the context window is full\0"
                            "a value overflowed or is not a number\0"
                            "the blob has no tokenizer that can do this\0"
                            "the output buffer is too small\0"
                            "stopped by the caller\0"
                            "unknown error";

/* The string of an error; the last one for what is none. */
static const char *nth(const char *list, tlm_err err)
{
    for (uint32_t i = 0; i < (uint32_t)err && i < (uint32_t)TLM_ERR_COUNT; i++) {
        while (*list++ != '\0') {
        }
    }
    return list;
}

const char *tlm_err_name(tlm_err err)
{
    return nth(names, err);
}

const char *tlm_err_text(tlm_err err)
{
    return nth(texts, err);
}
