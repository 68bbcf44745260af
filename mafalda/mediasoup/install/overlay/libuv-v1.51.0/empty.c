/* Nothing: see meson.build. */
typedef int mafalda_empty_translation_unit;
