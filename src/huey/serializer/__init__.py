"""Encoding of values to bytes and back, and the rules about who may read what.

    byte 0      format version, 1
    byte 1      flags: codec (0 pickle, 1 JSON, 2 the user's), 4 gzip, 8 zlib, 16 signed, 32 an error
    32 bytes    only when signed: HMAC-SHA-256 over version, flags, queue, purpose, id and all that follows
    4 + n bytes only in a signed task (flag 64): its declaration, a JSON list after its length
    the rest    the body

A pickle can name any class, and its writer chooses which. So classes are loaded from one only if no one else can have written it: the store
is trusted, the signature was verified, or the user set ``allow_pickle=True``. Otherwise only plain values and a short list of plain types
(datetime, Decimal, UUID, ...) are accepted; anything else raises at once in the producer, not later in the consumer.

Reading any bytes returns a value or raises DecodeError. Sizes and signature are checked first, then the rest.
"""

from __future__ import annotations

from huey.serializer.codec import Codec
from huey.serializer.formats import JSONSerializer, Serializer, SignedSerializer
from huey.serializer.pickles import MissingClass
from huey.serializer.signing import Declared, NewerFormat, Purpose

__all__ = ["Codec", "Declared", "JSONSerializer", "MissingClass", "NewerFormat", "Purpose", "Serializer", "SignedSerializer"]
