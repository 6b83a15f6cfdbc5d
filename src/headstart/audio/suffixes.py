"""Suffixes of audio files."""

# Of the files in a folder that are taken for recordings, the preferred one first where one lies there in several forms.
AUDIO = tuple(
    ".wav .wave .flac .sph .aif .aiff .aifc .au .snd .caf .w64 .rf64 .ogg .oga .opus .m4a .m4v .mp4 .mp3 .aac .webm "
    ".mkv .mka .mov .wma .amr .3gp .avi .mpg .mpeg .mp2 .ac3".split()
)
