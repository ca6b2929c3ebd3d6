"""How `safelight.media.synth` paints: palettes from words, smooth fields, and one file per family of scenes.

These modules import numpy when they are imported; only `synth` imports them, and only when it paints.
"""
