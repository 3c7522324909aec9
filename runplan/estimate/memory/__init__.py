"""GPU and host memory: closed forms of a step, torch's allocator, CUDA's context, and what logs teach about them."""
