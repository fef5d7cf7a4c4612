"""Whose connection it is, behind any number of proxies."""

from __future__ import annotations

import pytest

from gateway.edge.client_address import ClientAddress

PROXIES = ("10.0.0.0/8", "2001:db8:ffff::/48")


def behind(host: str, *fields: tuple[str, str], header: str = "x-forwarded-for", trusted: object = PROXIES) -> str:
    return ClientAddress(trusted, header).behind(host, fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7, 10.1.1.1", "192.0.2.7"),
        ("192.0.2.7,10.1.1.1 ,10.2.2.2", "192.0.2.7"),
        ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, 2001:db8:ffff::1", "192.0.2.7"),
        ("192.0.2.7, unknown", "10.0.0.1"),
        ("192.0.2.7, unknown, 10.2.2.2", "10.2.2.2"),
        ("", "10.0.0.1"),
        (",,,", "10.0.0.1"),
        ("<script>", "10.0.0.1"),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(value: str, client: str) -> None:
    assert behind("10.0.0.1", ("X-Forwarded-For", value)) == client


def test_several_fields_are_one_list() -> None:
    assert behind("10.0.0.1", ("x-forwarded-for", "6.6.6.6"), ("X-Forwarded-For", "192.0.2.7")) == "192.0.2.7"


def test_who_is_no_proxy_is_not_believed() -> None:
    assert behind("192.0.2.9", ("X-Forwarded-For", "192.0.2.7")) == "192.0.2.9"
    assert behind("10.0.0.1", ("X-Forwarded-For", "192.0.2.7"), trusted=()) == "10.0.0.1"
    assert behind("", ("X-Forwarded-For", "192.0.2.7")) == ""


def test_a_proxy_that_is_reached_over_ipv6_sockets_is_known_by_its_ipv4_address() -> None:
    assert behind("::ffff:10.0.0.1", ("X-Forwarded-For", "192.0.2.7")) == "192.0.2.7"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=192.0.2.7", "192.0.2.7"),
        ("For=6.6.6.6, for=192.0.2.7;proto=https;by=10.0.0.1", "192.0.2.7"),
        ('for="[2001:db8::7]:4711", for=10.1.1.1', "2001:db8::7"),
        ('for="192.0.2.7:80";host="a,b"', "192.0.2.7"),
        ("by=10.0.0.1;for=192.0.2.7", "192.0.2.7"),
        ("for=192.0.2.7, for=_hidden", "10.0.0.1"),
        ("for=192.0.2.7, for=unknown", "10.0.0.1"),
        ("for=192.0.2.7, proto=https", "10.0.0.1"),
        ('for=", for=192.0.2.7', "192.0.2.7"),
        ('for=", for="[2001:db8::7]"', "2001:db8::7"),
        ('x"for=6.6.6.6, for=192.0.2.7', "192.0.2.7"),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(value: str, client: str) -> None:
    assert behind("10.0.0.1", ("Forwarded", value), header="forwarded") == client


def test_the_header_that_the_proxies_do_not_write_is_ignored() -> None:
    fields = (("Forwarded", "for=6.6.6.6"), ("X-Forwarded-For", "192.0.2.7"))
    assert behind("10.0.0.1", *fields) == "192.0.2.7"
    assert behind("10.0.0.1", *fields, header="forwarded") == "6.6.6.6"


def test_a_long_chain_costs_a_bounded_number_of_looks() -> None:
    chain = ", ".join(["192.0.2.7", *["10.0.0.9"] * 1000])
    assert behind("10.0.0.1", ("X-Forwarded-For", chain)) == "10.0.0.9"
