"""One client's state: who it is, what it is subscribed to, what it may do, and how it is answered.

A session turns commands into replies. It knows channels, tokens and permissions; it does not know sockets: what it
sends goes to an `Outlet`, which the edge implements. The rule that is easiest to break: a reply to `subscribe` is given
to the outlet in the same step in which the receiver joins the hub, so that no publication can overtake it.
"""

from gateway.session.context import Outlet, SessionContext, channels_of_everyone
from gateway.session.control import Control
from gateway.session.events import members
from gateway.session.failures import Failures
from gateway.session.rate import RateLimit, Rates
from gateway.session.session import Session
from gateway.session.streaming import Desk
from gateway.session.user_limit import UserLimit

__all__ = [
    "Control",
    "Desk",
    "Failures",
    "Outlet",
    "RateLimit",
    "Rates",
    "Session",
    "SessionContext",
    "UserLimit",
    "channels_of_everyone",
    "members",
]
