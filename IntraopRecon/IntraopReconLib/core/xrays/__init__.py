"""X-ray images: DICOM, intensity to attenuation, simulation."""
