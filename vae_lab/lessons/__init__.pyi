from .catalogue import question as question
from .catalogue import questions as questions
from .lesson_01_padding_arithmetic import reversed_pad as reversed_pad
from .lesson_04_causality import plant_leak as plant_leak
from .quiz import Check as Check
from .quiz import Question as Question
