"""From poses to labels without torch: what a run takes of a clip, windows, streams, and how answers are written.

`skelgraph.predictor` puts a network of torch into it; an exported model needs nothing but this package.
"""
