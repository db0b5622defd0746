"""What a site asks of programs that read its pages (robots.txt, RFC 9309)."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.robotparser import RobotFileParser

from ...errors import CollectError, Refused
from ..visitor import AGENT, BROWSER, Call, Denied, Visitor

SLOWEST = 30.0  # seconds between two requests that a site may ask for


@dataclass
class Robots:
    """Asks each host once."""

    visitor: Visitor
    known: dict[str, RobotFileParser] = field(default_factory=dict)

    def check(self, url: str) -> None:
        """Raises CollectError where the site does not want programs on that page; keeps the
        distance between requests that it asks for.
        """
        parts = urlsplit(url)
        if parts.netloc not in self.known:
            self.known[parts.netloc] = self._rules(f"{parts.scheme}://{parts.netloc}/robots.txt")
        rules = self.known[parts.netloc]
        if not rules.can_fetch(AGENT, url):
            raise CollectError(f"{parts.netloc} asks programs not to read {url}. {BROWSER}")
        if delay := rules.crawl_delay(AGENT):
            pace = min(float(delay), SLOWEST)
            self.visitor.paces[parts.netloc] = max(pace, self.visitor.pace)

    def _rules(self, url: str) -> RobotFileParser:
        rules = RobotFileParser()
        try:
            body, _ = self.visitor.read(Call(url))
            rules.parse(body.decode("utf-8", "replace").splitlines())
        except Denied:  # it has none: everything is allowed
            rules.parse([])
        except Refused:
            raise
        except CollectError:  # it cannot be told: nothing is
            rules.parse(["User-agent: *", "Disallow: /"])
        return rules
