"""GPU and host memory: closed forms of a step, torch's allocator, CUDA's context, and what logs teach about them.

`closed_form` says what a step allocates (by `torchtune_step` or `trl_step`), `process` what the GPU needs and what
nvidia-smi will show, `learnt` how logs correct both; `host` and `host_logs` are about `--mem`.
"""
