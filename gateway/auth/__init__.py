"""Who a client is: JSON Web Tokens and the keys that they are signed with.

`keys` and `jwks` hold the keys, `tokens` turns a token into `claims`, `revocations` says which are no longer accepted,
`issue` makes tokens for the shell and the demo.
May touch the network and files only to read the key set.
"""

from gateway.auth.claims import ConnectionClaims, Override, SubscriptionClaims, SubscriptionGrant
from gateway.auth.issue import sign_token
from gateway.auth.keys import KeySet, UnknownKey
from gateway.auth.revocations import Revocations
from gateway.auth.tokens import TokenVerifier

__all__ = [
    "ConnectionClaims",
    "KeySet",
    "Override",
    "Revocations",
    "SubscriptionClaims",
    "SubscriptionGrant",
    "TokenVerifier",
    "UnknownKey",
    "sign_token",
]
