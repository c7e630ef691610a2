"""Why a decision was made: counterfactuals, attributions and their faithfulness, the coordinates of a code."""
