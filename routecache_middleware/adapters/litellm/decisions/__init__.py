"""Routing decisions: what auto-routers of LiteLLM chose, kept under a hash of what they looked at.

The hook ``async_pre_routing_hook`` of each strategy is wrapped in its class, so that Routers made
later, and those that the proxy makes anew, have it too. On a hit the strategy is not asked: no
embedding, no classifier. LiteLLM's own stamping happens outside of the hook, so it stays as it is.

What goes into an answer of a strategy, read in LiteLLM 1.106.2, and what is made of it here:

semantic (``AutoRouter``)
    The last user message, cut; routes, encoder and default model. Changes nothing in the request.
    ``semantic_error`` (the embedding failed, the default model serves) is not kept.
complexity (``ComplexityRouter``), every ``classifier_type``
    Messages, tools, system prompt and instructions; the user agent (which reminders are cut out);
    with ``custom`` the metadata. All of that is in the key.
    Session pins (``session_affinity``, ``classification_mode: user_turn``, and the pin of a model
    within a tier of several): state of LiteLLM's that a turn reads and writes. With a session id
    they are LiteLLM's affair, and nothing is kept. Without one there are no pins.
    ``plugins`` decide anew each turn by intent, ``cache_aware_routing`` by what providers have
    cached, ``adaptive`` by chance: nothing is kept, unless ``adaptive_decisions`` for the last.
    A tier of several models picks one at random: that pick is kept, for one query, for the TTL.
    ``litellm_params`` of a tier may hold credentials: never kept, taken from the configuration.
    The health of the group that was chosen: asked anew on each hit, by LiteLLM's own function.
    Stall detection, escalation keywords, plan mode, housekeeping and size: functions of the
    request. With the conversation scope such turns go by the strategy, and are not kept.
    A failed classifier: ``classifier_failure_reason`` stands beside an innocent cause. Not kept.
    A failed embedding of ``semantic_keyword_matching`` leaves no trace: it is watched for.
    Writes ``_complexity_router_return_raw_model_name`` into the metadata: replayed.
quality (``QualityRouter``)
    Last user message and system prompt; the index of tiers, costs and keywords it made of the
    model list. Writes ``quality_router_decision`` into the metadata: replayed.
adaptive (``AdaptiveRouter``), only with ``adaptive_decisions``
    Learnt state, chance, the least quality asked for. Writes its choice into the metadata:
    replayed.

None of them looks at time, spend or ``specific_deployment``; that last is left alone all the same.
Only causes on a list are kept, and only what is known of the metadata they change is replayed, so a
new release of LiteLLM adds nothing that was not looked at.

A hit needs more than a current entry: the chosen group must be able to serve this very request, and
whoever may no longer call the model directly, which the maker of the decision could, is routed
anew. ``classifier_cost`` of a hit is 0: nobody was asked.
"""

from routecache_middleware.adapters.litellm.decisions.part import create

__all__ = ["create"]
