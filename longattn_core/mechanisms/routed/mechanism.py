"""Routing: the content of a token decides what it reads, by a router over ways to attend, by clusters, or by capsules.

Source: Shazeer et al. 2017, arXiv:1701.06538 (router); Roy et al. 2020, arXiv:2003.05997 (clusters); Sabour et al. 2017,
arXiv:1710.09829 (capsules). Each variant's file says where we deviate.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.routed.capsules import attend_capsules
from longattn_core.mechanisms.routed.clusters import attend_clusters, estimated_cluster_cost
from longattn_core.mechanisms.routed.router import attend_router, estimated_router_cost
from longattn_core.registry import mechanism

Path = Literal["local", "strided", "clusters", "exact"]


class Routed(Mechanism):
    """A mixture of ways to attend for each query, or attention inside clusters, or reading through capsules."""

    key: ClassVar[str] = "routed"
    title: ClassVar[str] = "Routing"
    idea: ClassVar[str] = "Decide for each token by its content which keys it looks at, and how."
    paper: ClassVar[str] = "Roy et al. 2020, arXiv:2003.05997"
    complexity: ClassVar[str] = "n^1.5·d for clusters; a router's paths together"
    family: ClassVar[Family] = "by content"
    order: ClassVar[int] = 60
    causal_note: ClassVar[str] = (
        "Centroids and router are fitted on the calibration, or on the first quarter of the text for the queries after it; a "
        "query chooses by itself alone and reads earlier keys. But the length of the text sets that quarter, the stride of the "
        "strided path and, unless it is given, the number of clusters: so a longer text changes earlier rows, whatever it says."
    )

    variant: Literal["router", "clusters", "capsules"] = dial(
        "router",
        title="Routing",
        help="What a token's content decides.",
        options={
            "router": "a mixture of paths for each query",
            "clusters": "clusters of queries and keys (Routing Transformer)",
            "capsules": "capsules that tokens agree on",
        },
    )
    paths: tuple[Path, ...] = dial(
        ("local", "strided", "clusters"),
        title="Paths",
        when={"variant": ("router",)},
        help="The ways to attend among which the router chooses. With exact attention among them a fitted router learns "
        "to send everything there, where its error is least.",
        options={
            "local": "window and first tokens",
            "strided": "every so many tokens, over the whole length",
            "clusters": "keys of the same cluster",
            "exact": "every key",
        },
    )
    weights: Literal["fitted", "random"] = dial(
        "fitted",
        title="Router",
        symbol="W_r",
        when={"variant": ("router",)},
        help="Where the router's matrix comes from.",
        options={"fitted": "fitted to the path that serves each query best", "random": "drawn at random"},
    )
    top_k: int = dial(
        0,
        title="Top k",
        symbol="k",
        ge=0,
        le=4,
        when={"variant": ("router",)},
        help="How many paths a query takes, those of the largest share; 0 takes all of them.",
    )
    width: int = dial(
        64,
        title="Keys w",
        symbol="w",
        ge=1,
        le=65536,
        scale="log2",
        when={"variant": ("router", "clusters")},
        help="A query looks at no more than the last w keys of its cluster (without a mask, those around it), and at w "
        "keys on every other path.",
    )
    sinks: int = dial(
        4,
        title="Sinks s",
        symbol="s",
        ge=0,
        le=1024,
        when={"variant": ("router",)},
        help="How many of the local path's w keys are the first tokens.",
    )
    clusters: int = dial(
        0,
        title="Clusters c",
        symbol="c",
        ge=0,
        le=1024,
        when={"variant": ("router", "clusters")},
        help="How many clusters there are; 0 makes √n of them.",
    )
    centred: bool = dial(
        True,
        title="Centre before clustering",
        when={"variant": ("router", "clusters")},
        help="Take the mean off queries and keys before they are clustered: a trained model's lie in cones apart and "
        "would share no cluster. Scores stay as they are.",
    )
    capsules: int = dial(
        16,
        title="Capsules",
        symbol="j",
        ge=1,
        le=128,
        scale="log2",
        when={"variant": ("capsules",)},
        help="How many vectors the tokens vote on.",
    )
    iterations: int = dial(
        3,
        title="Iterations",
        symbol="t",
        ge=1,
        le=10,
        when={"variant": ("capsules",)},
        help="How often tokens and capsules adjust to each other.",
    )

    @model_validator(mode="after")
    def _distinct_paths(self) -> Self:
        """Raises: ValueError for no path, or for a path that is named twice."""
        if not self.paths or len(set(self.paths)) < len(self.paths):
            raise ValueError(f"paths must name at least one path, and each once; found {self.paths}")
        return self

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost: that of the paths and of a fit linear in n; n·(√n + w)·d for clusters; n·t·c·e for capsules."""
        if self.variant == "clusters":
            return attend_clusters(self, sequence, clusters=self.clusters, width=self.width, centred=self.centred)
        if self.variant == "capsules":
            return attend_capsules(self, sequence, capsules=self.capsules, iterations=self.iterations)
        return attend_router(self, sequence, paths=self._built(sequence.n), top_k=self.top_k, fitted=self.weights == "fitted")

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """The paths' formulas and the fit; clusters count as evenly filled. Capsules have no formula and attend."""
        if self.variant == "clusters":
            return estimated_cluster_cost(sequence, clusters=self.clusters, width=self.width, seed=self.seed)
        if self.variant == "capsules":
            return super().estimated_cost(sequence)
        return estimated_router_cost(sequence, paths=self._built(sequence.n), fitted=self.weights == "fitted")

    def _built(self, n: int) -> dict[str, Mechanism]:
        """Each path as a mechanism, for n tokens."""
        sinks = min(self.sinks, self.width - 1)
        stride = max(1, min(4096, math.ceil(n / self.width)))
        known = {
            "local": mechanism("window", variant="sinks", width=self.width - sinks, sinks=sinks),
            "strided": mechanism("window", variant="sliding", width=self.width, dilation=stride),
            "clusters": self.with_dials(variant="clusters"),
            "exact": mechanism("exact"),
        }
        return {name: known[name] for name in self.paths}

    def refuses(self, sequence: Sequence) -> str | None:
        """Capsules sum over the whole text and refuse a causal mask; a router refuses what one of its paths refuses."""
        if self.variant == "capsules":
            if sequence.causal:
                return "Capsules gather votes from the whole text, so a causal mask, which hides the future, cannot be kept."
            return None
        if self.variant == "router":
            for path in self._built(sequence.n).values():
                if (sentence := path.refuses(sequence)) is not None:
                    return sentence
        return None

    def exact_setting(self, n: int) -> Self | None:
        """Exact attention as the only path; one cluster with a width of n."""
        if self.variant == "router":
            return self.with_dials(paths=("exact",))
        if self.variant == "clusters" and n <= 65536:
            return self.with_dials(clusters=1, width=n)
        return None

    @property
    def no_exact_setting(self) -> str | None:
        """Capsules are no softmax over keys."""
        if self.variant == "capsules":
            return "Capsules mix values by agreement and shrink them; no number of capsules gives the softmax of q·k."
        return None

    def ladder(self, n: int) -> tuple[Self, ...]:
        """More keys for each path, then exact attention; fewer clusters, down to one; capsules have one rung."""
        widths = sorted({max(2, n // share) for share in (16, 8, 4, 2) if n // share <= 65536})
        if self.variant == "router":
            return (*(self.with_dials(width=width, clusters=0) for width in widths), self.with_dials(paths=("exact",)))
        if self.variant == "clusters":
            room = min(n, 65536)
            counts = sorted({max(1, min(1024, round(math.sqrt(n) * share))) for share in (2, 1, 0.5, 0.25)} | {1})
            return tuple(self.with_dials(clusters=count, width=room) for count in reversed(counts))
        return (self,)

    def with_budget(self, keys: int, n: int) -> Self:
        """The keys divided among the paths that a query takes; clusters of about `keys` keys; `keys` capsules."""
        if self.variant == "capsules":
            return self.with_dials(capsules=min(keys, 128))
        if keys >= n and (limit := self.exact_setting(n)) is not None:
            return limit
        if self.variant == "clusters":
            return self.with_dials(clusters=max(1, min(1024, round(n / keys))), width=min(keys, 65536))
        count = min(self.top_k, len(self.paths)) or len(self.paths)
        share = max(1, keys // count)
        clusters = max(1, min(1024, round(n / share)))
        return self.with_dials(width=min(share, 65536), sinks=min(self.sinks, share // 2), clusters=clusters)

    @classmethod
    def showcase(cls) -> tuple[Self, ...]:
        """The router and the clusters; capsules cannot be causal and are no softmax."""
        return (cls(), cls(variant="clusters"))

    @property
    def label(self) -> str:
        """The variant, with how a router chooses."""
        if self.variant == "router":
            return f"Router{f', top {self.top_k}' if self.top_k else ''}{', random' if self.weights == 'random' else ''}"
        return {"clusters": "Clusters (k-means)", "capsules": "Capsules"}[self.variant]

    @property
    def parameters(self) -> Origin:
        """Centroids and router are fitted here; capsules' directions are drawn."""
        if self.variant == "capsules" or (self.variant == "router" and self.weights == "random"):
            return "random draw"
        return "fitted here"

    @property
    def not_stochastic(self) -> str | None:
        """Squashing shrinks each capsule, so the rows of capsules do not sum to 1."""
        if self.variant == "capsules":
            return "Capsules are squashed to a length below 1 and couplings depend on the values: rows hold at these values only."
        return None

    @property
    def differentiable(self) -> bool:
        """Fitted parameters count as constant. Capsules read no keys, which then receive no gradient."""
        return self.variant != "capsules"

    @property
    def depends_on_future(self) -> str | None:
        """The sentence of the first path that depends on later tokens; see `causal_note` for the length of the text."""
        if self.variant != "router":
            return None
        return next((path.depends_on_future for path in self._built(1).values() if path.depends_on_future is not None), None)
