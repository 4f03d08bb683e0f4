"""Arrays in, Plotly or Altair figures out: no torch and no streamlit here."""
