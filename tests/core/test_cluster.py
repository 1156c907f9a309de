from routecache_middleware.core.cluster import ClusterStats, NodeState, NodeStats


def test_nodes_are_counted_by_state() -> None:
    states = [NodeState.UP, NodeState.DOWN, NodeState.UP, NodeState.SUSPECT]
    nodes = tuple(NodeStats(name=f"n{i}:1", state=state) for i, state in enumerate(states))
    stats = ClusterStats(nodes=nodes)
    assert {state: stats.count(state) for state in NodeState} == {
        NodeState.UP: 2,
        NodeState.SUSPECT: 1,
        NodeState.DOWN: 1,
        NodeState.JOINING: 0,
    }
