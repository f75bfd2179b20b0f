"""Which rows a run has answered already: Ray Data's checkpoints, filtered by ids that are made of the rows."""

import pyarrow as pa
from ray.data.checkpoint import CheckpointConfig
from ray.data.checkpoint.checkpoint_filter import NumpyArrayBasedCheckpointFilter

from nimdrum.tools.ray_score.row_ids import ID, RowIds


class RowFilter(NumpyArrayBasedCheckpointFilter):
    """Takes answered rows out of what was read. Ray's own wants ids in the source, where ours cannot be."""

    def filter_rows_for_block(self, block: pa.Table) -> pa.Table:
        with_ids = self.ckpt_config.row_ids.put(block)
        return super().filter_rows_for_block(with_ids).drop_columns([ID])


def checkpoints(folder: str, ids: RowIds) -> CheckpointConfig:
    """Checkpoints in `folder`. They stay after a success: the same run again then asks nothing."""
    config = CheckpointConfig(ID, folder, delete_checkpoint_on_success=False, checkpoint_filter_cls=RowFilter)
    config.row_ids = ids
    return config
