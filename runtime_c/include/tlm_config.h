/* What applications, core and kernels share: limits of a build (each may be overridden with -D; results do not
 * depend on them) and the types of the KV cache. */
#ifndef TLM_CONFIG_H
#define TLM_CONFIG_H

#ifndef TLM_MAX_BATCH
#define TLM_MAX_BATCH 16u /* tokens of one prefill batch */
#endif
#ifndef TLM_MAX_PARTS
#define TLM_MAX_PARTS 16u /* threads or cores of tlm_parallel */
#endif
#ifndef TLM_MAX_CANDIDATES
#define TLM_MAX_CANDIDATES 256u /* NUMERICS rule 22: also the meaning of top_k = 0 */
#endif
#ifndef TLM_MAX_REPEAT
#define TLM_MAX_REPEAT 256u /* largest repetition window */
#endif
#ifndef TLM_MAX_PIECE
#define TLM_MAX_PIECE 512u /* bytes of the longest piece; open refuses a blob with a longer one */
#endif
#define TLM_PAGE 16u /* positions of a KV page: part of the kernel contract, not to be changed */
#define TLM_MAX_PIECES 4u
#define TLM_OWN_BLOCKS 3u /* blocks of the caller's that a session places beside its own */

typedef enum tlm_kv_type { TLM_KV_F32, TLM_KV_F16, TLM_KV_I8, TLM_KV_I4, TLM_KV_COUNT } tlm_kv_type;

#endif
