"""A page with a title, one slider and its value: what a moved dial costs in Streamlit and the browser alone."""

import streamlit as st

st.title("The floor")
st.write(st.slider("Anything", 0, 100, 50))
