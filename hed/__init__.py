"""The science of the High Error Drug (HED) workflow: a drug held out per RUN, IMPROVE data, the Uno model."""
