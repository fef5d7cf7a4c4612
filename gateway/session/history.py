"""`history`: a page of a channel's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import BrokerError
from gateway.session.outcomes import Refusal
from gateway.session.permissions import check_history
from protocol.codes import BAD_REQUEST, INTERNAL, NOT_AVAILABLE, UNRECOVERABLE_POSITION
from protocol.commands import HistoryRequest
from protocol.replies import HistoryResult, Reply

if TYPE_CHECKING:
    from gateway.session.session import Session


async def history(session: Session, command_id: int, request: HistoryRequest) -> None:
    """Answer with at most `limits.history_page` publications.

    Raises Refusal: 103, 107, 108 without history, 112 when the log has another epoch, 100 (temporary).
    """
    context = session.context
    name, rules = session.find(request.channel)
    if not context.config.auth.insecure:
        check_history(name, rules, session.user, subscribed=name.full in session.subscriptions)
    if not rules.has_history:
        raise Refusal(NOT_AVAILABLE)
    if request.limit < -1 or (request.since is not None and request.since.offset < 0):
        raise Refusal(BAD_REQUEST, "limit must be -1 or more, since.offset 0 or more")
    page_size = context.config.limits.history_page
    limit = page_size if request.limit == -1 else min(request.limit, page_size)
    since = request.since
    try:
        if request.reverse and limit:
            before = since.offset if since is not None and since.offset else None
            page = await context.channel_log.read_back(name.full, before=before, limit=limit)
        else:
            page = await context.channel_log.read(
                name.full, after=since.offset if since is not None else 0, limit=limit
            )
    except BrokerError as error:
        raise Refusal(INTERNAL) from error
    if since is not None and since.epoch and since.epoch != page.top.epoch:
        raise Refusal(UNRECOVERABLE_POSITION)
    result = HistoryResult(publications=page.publications, offset=page.top.offset, epoch=page.top.epoch)
    session.reply(Reply(id=command_id, history=result))
