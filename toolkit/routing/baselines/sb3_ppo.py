"""SB3 PPO: stable-baselines3's PPO as it comes, on raw embeddings; the paper's set-up, nearest.

It has no action masks, so that it is left out where responses are missing or the suite's tree leaves paths out.
"""

from typing import TYPE_CHECKING

from toolkit.core.cpus import one_thread
from toolkit.replay.exact import ends, most_probable, path_shares
from toolkit.replay.observations import Observer
from toolkit.replay.table import Ints, TransitionTable, cached_on_table
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split

if TYPE_CHECKING:
    from stable_baselines3 import PPO

TIMESTEPS = 50_000
"""Steps of the environment, the only setting that PPO has no default for."""


@cached_on_table
def trained(table: TransitionTable, alpha: float, allow_stop: bool) -> "PPO":
    """Train a policy with PPO's defaults, one episode at a time."""
    from stable_baselines3 import PPO

    from toolkit.replay.environments import RoutingVecEnv

    env = RoutingVecEnv(table, 1, alpha, "train", allow_stop=allow_stop)
    with one_thread():
        return PPO("MlpPolicy", env, seed=0, device="cpu").learn(TIMESTEPS)


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the ends that the greedy policy reaches."""
    from toolkit.routing.decide import action_probabilities

    model = trained(table, alpha, allow_stop)
    shares = path_shares(table, most_probable(action_probabilities(model, Observer(table), table.rows(split), alpha)))
    reached: Ints = ends(table, allow_stop).start + shares.argmax(1)
    return reached


def lacks(table: TransitionTable, allow_stop: bool) -> str:
    """Say that not every model may be chosen everywhere."""
    return "" if table.available is None else f"PPO as it comes has no action masks, and {table.mask_reason}."


BASELINE = Baseline("SB3 PPO", choose, order=78, reads_responses=True, fitted=True, always=False, slow=True, lacks=lacks)
