"""The interactive viewer of spectra, drawn with Bokeh."""
