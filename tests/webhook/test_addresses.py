"""Which URLs an endpoint may have, and which addresses a webhook may be sent to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from mailer_webhook.addresses import checked_url, may_connect

PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8")
PUBLIC_BY_NAT64 = "64:ff9b::808:808"

NOT_PUBLIC = (
    "127.0.0.1",
    "127.255.0.9",
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",  # a cloud's metadata
    "168.63.129.16",  # another's
    "169.254.169.254",  # most of them
    "172.31.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "192.88.99.1",
    "198.18.0.1",
    "203.0.113.7",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
)


@pytest.mark.parametrize("text", [*PUBLIC, PUBLIC_BY_NAT64])
def test_what_all_can_reach_may_be_connected_to_by_tls(text: str) -> None:
    assert may_connect(ip_address(text), (), tls=True)
    assert not may_connect(ip_address(text), (), tls=False)


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_what_not_all_can_reach_may_not(text: str) -> None:
    assert not may_connect(ip_address(text), (), tls=True)


def test_ranges_that_are_named_are_open_in_any_form_and_no_others() -> None:
    named = (ip_network("10.1.0.0/16"), ip_network("fd12::/16"))
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::1"):
        assert may_connect(ip_address(text), named, tls=False), text
    for text in ("10.2.2.3", "::ffff:10.2.2.3", "fd13::1", "127.0.0.1"):
        assert not may_connect(ip_address(text), named, tls=True), text


GOOD_URLS = {
    "https://example.com": ("example.com", 443, "/"),
    "https://EXAMPLE.com:8443/a/b?c=d": ("example.com", 8443, "/a/b?c=d"),
    "https://8.8.8.8/": ("8.8.8.8", 443, "/"),
    "https://[2606:4700:4700::1111]:444/x": ("2606:4700:4700::1111", 444, "/x"),
    "https://1e100.net/": ("1e100.net", 443, "/"),
}


@pytest.mark.parametrize("url", GOOD_URLS)
def test_good_urls(url: str) -> None:
    target = checked_url(url, ())
    assert (target.host, target.port, target.path) == GOOD_URLS[url]
    assert target.tls


BAD_URLS = (
    "",
    "example.com",
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:25/",
    "https://",
    "https:///path",
    "https://example.com:0/",
    "https://example.com:99999/",
    "https://example.com:x/",
    "https://user:password@example.com/",
    "https://@example.com/",
    "https://8.8.8.8@127.0.0.1/",
    "https://8.8.8.8\\@127.0.0.1/",
    "https://example.com/#fragment",
    "https://example.com/a b",
    "https://example.com/\r\nHost: x",
    "https://exämple.com/",
    "https://[::1",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[fe80::1%25eth0]/",
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://127.1/",
    "https://0/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://example.com/" + "x" * 2000,
)


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w{2,} \w+"):
        checked_url(url, ())


def test_http_is_for_ranges_that_are_named() -> None:
    named = (ip_network("127.0.0.0/8"),)
    assert not checked_url("http://127.0.0.1:3000/hook", named).tls
    assert checked_url("http://receiver.internal/hook", named).port == 80
    with pytest.raises(ValueError, match="needs https://"):
        checked_url("http://8.8.8.8/hook", named)
