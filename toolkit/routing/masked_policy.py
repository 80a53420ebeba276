"""The policy of tables with missing responses: it only chooses among the models that its observation says are available."""

import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from toolkit.routing.networks import RouterFeatures

UNAVAILABLE = -1e8
"""Logit of an unavailable model, as in sb3-contrib: its probability is exactly 0, and every gradient is finite."""


class MaskedPolicy(ActorCriticPolicy):
    """Stable-baselines3's policy over `RouterFeatures`, whose observations say which models may be chosen.

    The networks read the same features as those of a complete table. Which models are missing only rules actions out: it is no
    feature, so that a router does not depend on it where all models are there.
    """

    def get_distribution(self, obs: torch.Tensor) -> Distribution:  # type: ignore[override]  # SB3 allows nested observations
        """Return the distribution over actions; those that are not available have probability 0."""
        distribution = super().get_distribution(obs)
        categorical = distribution.distribution
        assert isinstance(categorical, torch.distributions.Categorical)
        return distribution.proba_distribution(mask_logits(categorical.logits, self._allowed(obs)))

    def forward(self, obs: torch.Tensor, deterministic: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return actions, values and the actions' log probabilities, `(n,)` each."""
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def evaluate_actions(  # type: ignore[override]
        self, obs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return values, log probabilities of the given actions, and entropies, `(n,)` each."""
        distribution = self.get_distribution(obs)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()

    def _allowed(self, obs: torch.Tensor) -> torch.Tensor:
        """Return which models the observations say may be chosen, `(n, M)`."""
        extractor = self.pi_features_extractor
        if not isinstance(extractor, RouterFeatures):
            raise ValueError(
                f"its features are {type(extractor).__name__}, which do not say which models may be chosen; build it with "
                "policy_kwargs=features_kwargs(env.observer, rank=0, first_layer='shared') of toolkit.routing.networks"
            )
        layout = extractor.layout
        return obs[:, layout.features : layout.size] > 0


def mask_logits(logits: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Return logits, `(..., actions)`, with those of unavailable models lowered; the other actions always are available.

    Args:
        logits: The logits.
        allowed: Which models may be chosen, `(..., M)`, the first of the actions.
    """
    models = allowed.shape[-1]
    return torch.cat([logits[..., :models].masked_fill(~allowed, UNAVAILABLE), logits[..., models:]], dim=-1)


def masked_class(policy: type[BasePolicy]) -> type[BasePolicy]:
    """Return the class that honours missing responses in place of stable-baselines3's own; any other class as it is."""
    return MaskedPolicy if policy is ActorCriticPolicy else policy
