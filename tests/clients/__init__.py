"""What users run, against what users run: see ``test_answers``.

LiteLLM reads this when it is imported, and would ask the network for its price map.
"""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
