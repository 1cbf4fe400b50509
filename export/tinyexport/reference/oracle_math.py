"""The scalar rules of NUMERICS.md on float32 arrays: one numpy operation for each operation of a rule.

numpy's elementwise float32 operations round once each and never fuse. Its sums are not sequential, so `np.sum` and `@`
occur nowhere but in `int_product`, where every partial sum is an integer below 2^24 and so exact in any order.
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyError

F = np.float32


def const(text: str) -> np.float32:
    """A hexadecimal float literal of NUMERICS.md."""
    return F(float.fromhex(text))


LOG2E, LN2_HI, LN2_LO = const("0x1.715476p+0"), const("0x1.63p-1"), const("-0x1.bd0106p-13")
C_2PI_32 = const("0x1.921fb6p-30")
E = [
    const(s) for s in ("0x1p-1", "0x1.555554p-3", "0x1.55548ep-5", "0x1.111272p-7", "0x1.6d8db2p-10", "0x1.9f0816p-13")
]
S1, S2, S3 = const("-0x1.555546p-3"), const("0x1.11076p-7"), const("-0x1.994e5cp-13")
C1, C2, C3 = const("0x1.55554ap-5"), const("-0x1.6c0c8ap-10"), const("0x1.9a020ap-16")
GELU_K, GELU_C = const("0x1.988454p-1"), const("0x1.6e4e26p-5")
RSQRT2, ERF_P = const("0x1.6a09e6p-1"), const("0x1.4f740ap-2")
A = [const(s) for s in ("0x1.04f20cp-2", "-0x1.23531cp-2", "0x1.6be1c6p+0", "-0x1.7401c6p+0", "0x1.0fb844p+0")]
L = [const(s) for s in ("0x1.555554p-1", "0x1.999a7ap-2", "0x1.2438d8p-2", "0x1.e2f65ep-3")]
ROUND = F(12582912.0)  # 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
ROUND_BITS = np.int32(0x4B400000)
TINY = const("0x1p-100")
ONE, HALF, TWO = F(1), F(0.5), F(2)


class OracleError(TinyError):
    """A value that the contract forbids, or a call that the runtime would refuse."""


def bits(x: np.ndarray) -> np.ndarray:
    """The IEEE bits of float32 values, int32."""
    return np.asarray(x, F).view(np.int32)


def from_bits(b: np.ndarray) -> np.ndarray:
    """float32 values of IEEE bits."""
    return np.asarray(b).astype(np.int32).view(F)


def sum8(v: np.ndarray) -> np.ndarray:
    """Rule 4 over the last axis."""
    groups = -(-v.shape[-1] // 8)
    lanes = np.zeros((*v.shape[:-1], groups * 8), F)
    lanes[..., : v.shape[-1]] = v
    lanes = lanes.reshape(*v.shape[:-1], groups, 8)
    a = lanes[..., 0, :].copy()
    for i in range(1, groups):
        a += lanes[..., i, :]
    return fold8(a)


def fold8(a: np.ndarray) -> np.ndarray:
    """The eight lanes of sum8 as one value."""
    b = [a[..., i] for i in range(8)]
    return ((b[0] + b[4]) + (b[2] + b[6])) + ((b[1] + b[5]) + (b[3] + b[7]))


def int_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b of integers held as float32, partial sums below 2^24: exact; a zero sum is +0 as an integer's is."""
    return np.asarray((a @ b) + F(0), F)


def absmax(x: np.ndarray) -> np.ndarray:
    """Largest magnitude along the last axis; OracleError for NaN or Inf."""
    top = (bits(x) & np.int32(0x7FFFFFFF)).max(axis=-1)
    if (top >= 0x7F800000).any():
        raise OracleError("a non-finite value appeared during eval", "the weights are out of range")
    return from_bits(top)


def round_codes(t: np.ndarray) -> np.ndarray:
    """Nearest integers of small floats, ties to even, int32."""
    return bits(t + ROUND) - ROUND_BITS


def quant(x: np.ndarray, floor: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Rule 5 over the last axis: codes (int32, shape of x) and scales (shape of x without its last axis)."""
    amax = absmax(x)
    if floor:
        amax = np.maximum(amax, F(floor))
    zero = amax < TINY
    safe = np.where(zero, ONE, amax)
    inv = F(127.0) / safe
    codes = round_codes(np.where(zero[..., None], F(0), x) * inv[..., None])
    return codes, np.where(zero, F(0), amax * const("0x1.020408p-7"))


def sqrt(x: np.ndarray) -> np.ndarray:
    """Rule 2: numpy's float32 sqrt is correctly rounded."""
    return np.sqrt(x)


def exp(x: np.ndarray) -> np.ndarray:
    """Rule 13."""
    c = np.clip(x, F(-60), F(60))
    t = c * LOG2E + ROUND
    n = bits(t) - ROUND_BITS
    nf = t - ROUND
    r = c - nf * LN2_HI
    r = r - nf * LN2_LO
    p = ((((E[5] * r + E[4]) * r + E[3]) * r + E[2]) * r + E[1]) * r + E[0]
    y = ((p * r) * r + r) + ONE
    return np.where(x < F(-60), F(0), from_bits(bits(y) + (n << 23)))


def log(x: np.ndarray) -> np.ndarray:
    """Rule 24, x >= 1."""
    n = (bits(x) - np.int32(0x3F3504F3)) >> 23
    m = from_bits(bits(x) - (n << 23))
    f = m - ONE
    s = f / (TWO + f)
    z = s * s
    p = ((L[3] * z + L[2]) * z + L[1]) * z + L[0]
    y = (s + s) + (s * z) * p
    nf = n.astype(F)
    return nf * LN2_HI + (nf * LN2_LO + y)


def sin_cos(ph: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rule 12: sine and cosine of phases given as uint32 fractions of a turn."""
    q = (ph + np.uint32(1 << 29)) >> np.uint32(30)
    a = (ph - (q << np.uint32(30))).view(np.int32).astype(F) * C_2PI_32
    z = a * a
    s = a + (a * z) * ((S3 * z + S2) * z + S1)
    c = (ONE - HALF * z) + (z * z) * ((C3 * z + C2) * z + C1)
    return np.choose(q, (s, c, -s, -c)), np.choose(q, (c, -s, -c, s))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Rule 14."""
    return ONE / (ONE + exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    """Rule 14."""
    return x * sigmoid(x)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """Rule 14."""
    u = GELU_K * (x + GELU_C * ((x * x) * x))
    return x * sigmoid(u + u)


def erf(v: np.ndarray) -> np.ndarray:
    """Rule 14."""
    w = np.abs(v)
    t = ONE / (ONE + ERF_P * w)
    p = ((((A[4] * t + A[3]) * t + A[2]) * t + A[1]) * t + A[0]) * t
    e = ONE - p * exp(-(w * w))
    return np.where(v < 0, -e, e)


def gelu_erf(x: np.ndarray) -> np.ndarray:
    """Rule 14."""
    return (x * HALF) * (ONE + erf(x * RSQRT2))


def relu(x: np.ndarray) -> np.ndarray:
    """Rule 14: +0 for everything that is not above zero."""
    return np.where(x > 0, x, F(0))


def relu2(x: np.ndarray) -> np.ndarray:
    """Rule 14."""
    m = relu(x)
    return m * m


def norm(x: np.ndarray, eps: float, layer: bool, g: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
    """Rule 11 over the last axis; `g` None is a unit gain."""
    inv_n = ONE / F(x.shape[-1])
    d = x - (sum8(x) * inv_n)[..., None] if layer else x
    v = sum8(d * d) * inv_n
    y = d * (ONE / sqrt(v + F(eps)))[..., None]
    if g is not None:
        y = y * g
    return y if b is None else y + b


def kv_codes(x: np.ndarray, top: int, feedback: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rule 15 for i8 (top 127) and i4 (top 7) over the last axis of x [n, channels]: int32 codes, bf16 scales."""
    amax = absmax(x)
    zero = amax < TINY
    s = np.where(zero, ONE, amax) * const("0x1.02040ap-7" if top == 127 else "0x1.24924ap-3")
    s = from_bits((bits(s).astype(np.int64) + 0xFFFF) & 0xFFFF0000)
    steps = np.where(zero[..., None], F(0), x) * (ONE / s)[..., None]
    codes = round_codes(steps) if feedback is None else fed_codes(steps, feedback)
    return codes, np.where(zero, F(0), s)


def fed_codes(steps: np.ndarray, feedback: np.ndarray) -> np.ndarray:
    """Rule 15 with feedback [head_dim, channels]: int32 codes of steps [n, channels]."""
    head_dim = len(feedback)
    heads = steps.reshape(len(steps), -1, head_dim)
    weights = feedback.reshape(head_dim, -1, head_dim)
    codes, errors = np.zeros(heads.shape, np.int32), np.zeros(heads.shape, F)
    for d in reversed(range(head_dim)):
        t = heads[..., d]
        for i in range(d + 1, head_dim):
            t = t + weights[d, :, i] * errors[..., i]
        codes[..., d] = round_codes(np.clip(t, F(-7), F(7)))
        errors[..., d] = heads[..., d] - codes[..., d].astype(F)
    return codes.reshape(steps.shape)
