"""The kernels in Triton, an extra of its own: pip install 'a2edit[kernels]'.

Tensors are taken as they come (anything with a data pointer, in practice torch's), results are
written into buffers that the caller gives, and nothing here imports torch. With TRITON_INTERPRET=1
set before the first import, the same functions run on a CPU, in numpy.
"""
