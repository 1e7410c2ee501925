"""The readable truth of A²-Edit, in torch: experts, gate and routing on diffusers' Flux.

Everything that an engine computes is written here once and plainly; exported graphs, merged weight
sets and compiled engines are compared with this package.
"""
