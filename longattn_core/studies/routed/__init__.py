"""Routing, measured: who handles which token, how good that is, what clusters and capsules do.

Source: ours. `kinds.py` sorts tokens by what they are; `routes.py` follows all tokens through the router and `route.py` one
query, and `path_outputs.py` holds what both share; `clusters.py` and `capsules.py` look at the other two ways; `error.py`
sweeps the number of clusters; `finding.py` chooses the sentences.
"""

from longattn_core.studies.routed.capsules import Capsules
from longattn_core.studies.routed.clusters import Clusters
from longattn_core.studies.routed.error import ClusterError
from longattn_core.studies.routed.finding import ClusterFinding, RouterFinding, capsules_kind, cluster_finding, router_finding
from longattn_core.studies.routed.route import Route
from longattn_core.studies.routed.routes import Routes

__all__ = [
    "Capsules",
    "ClusterError",
    "ClusterFinding",
    "Clusters",
    "Route",
    "RouterFinding",
    "Routes",
    "capsules_kind",
    "cluster_finding",
    "router_finding",
]
